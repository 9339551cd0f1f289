//! The command line of a benchmark.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// What all benchmarks can be told.
pub struct Options {
    /// Rounds; medians of them are printed.
    pub rounds: usize,
    /// Size of the large file in MiB.
    pub mib: u64,
    /// Number of files where that is what is measured.
    pub files: usize,
    /// Where files are made: a directory on the disk that is measured.
    pub directory: PathBuf,
    /// Print JSON instead of tables.
    pub json: bool,
    /// Exit with status 1 when a goal is missed.
    pub check: bool,
    /// Measure only what has this in its title.
    pub only: Option<String>,
    /// Environments with real engines, as `tests/engines/setup.py` makes them.
    pub venv: Option<PathBuf>,
    /// What the pool keeps ready for the next copies, where that matters: as in the configuration.
    pub prefault: Option<String>,
}

const HELP: &str = "\
options: --rounds N   rounds, of which medians are printed
         --mib N      size of the large file
         --files N    number of files, where many are measured
         --dir DIR    where the files are made: the disk to be measured
         --only TEXT  measure only the tables with TEXT in their title
         --venv DIR   measure real engines too, where that is done: those of
                      `python3 tests/engines/setup.py DIR [--torch]`
         --prefault N what the pool keeps ready for the next copies, where that
                      matters, as in the configuration: 0B for nothing
         --json       print JSON instead of tables
         --check      exit with status 1 when a goal is missed";

impl Options {
    /// The arguments of this process over the defaults; `None` when there is nothing to do: help was
    /// asked for, this is no benchmark run, or we are not root.
    ///
    /// # Errors
    /// An argument that is wrong, and what would be right.
    pub fn parse(defaults: Options) -> Result<Option<Options>> {
        let mut options = defaults;
        let mut is_benchmark_run = false;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} needs a value\n{HELP}"))
            };
            match argument.as_str() {
                "--rounds" => options.rounds = number(&argument, &value()?)?,
                "--mib" => options.mib = number(&argument, &value()?)? as u64,
                "--files" => options.files = number(&argument, &value()?)?,
                "--dir" => options.directory = std::path::absolute(value()?)?,
                "--only" => options.only = Some(value()?),
                "--venv" => options.venv = Some(std::path::absolute(value()?)?),
                "--prefault" => options.prefault = Some(value()?),
                "--json" => options.json = true,
                "--check" => options.check = true,
                // `cargo bench` says so; `cargo test --benches` does not.
                "--bench" => is_benchmark_run = true,
                "--help" | "-h" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                other => bail!("unknown option {other}\n{HELP}"),
            }
        }
        if !is_benchmark_run {
            println!("skipped: this is a benchmark; run it by `cargo bench`");
            return Ok(None);
        }
        if !rustix::process::geteuid().is_root() {
            println!(
                "skipped: this benchmark must be run as root: it mounts a tmpfs and drops caches, and \
                 the kernel gives FUSE passthrough to root alone. Try `sudo -E cargo bench`"
            );
            return Ok(None);
        }
        Ok(Some(options))
    }

    /// Whether tables of this title are wanted.
    pub fn wants(&self, title: &str) -> bool {
        self.only.as_ref().is_none_or(|only| title.contains(only))
    }

    /// Whether a row of a table is wanted: `--only` may go on behind the title, `TITLE, ROW`.
    pub fn wants_row(&self, title: &str, row: &str) -> bool {
        let goes_on = |only: &String| {
            let of_row = only.strip_prefix(title);
            of_row.is_some_and(|rest| format!(", {row}").starts_with(rest))
        };
        self.wants(title) || self.only.as_ref().is_some_and(goes_on)
    }

    /// Size of the large file in bytes.
    pub fn bytes(&self) -> u64 {
        self.mib << 20
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            rounds: 11,
            mib: 1024,
            files: 1000,
            directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            json: false,
            check: false,
            only: None,
            venv: None,
            prefault: None,
        }
    }
}

fn number(argument: &str, text: &str) -> Result<usize> {
    let number: usize = text
        .parse()
        .with_context(|| format!("{argument} needs a number, not {text:?}"))?;
    ensure!(number > 0, "{argument} must be at least 1");
    Ok(number)
}
