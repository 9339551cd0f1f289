//! `speedloader install`: shows what it would change on this machine, and changes it when told to.

use std::ffi::OsStr;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use speedloader_config::{Account, Config, File, Sources, load};

use super::context::Context;
use super::settings::{bad_config, system_places};
use crate::command::{Code, Message};
use crate::install::{self, Page, Plan, Root, Way, Wish};
use crate::machine::misplaced;
use crate::view::{InstallState, View};

/// Mount at every start: write a service, or a line of fstab; and take it back
#[derive(Args, Debug)]
#[command(after_help = "\
Writes /etc/systemd/system/speedloader.service, or with --fstab a line of /etc/fstab and the link by
which mount(8) finds this program; and the manual pages and completions, where this machine has
programs that read them. The configuration is checked first.

Every change is shown before it is made. A file that was not written by this verb, or was changed
since, is replaced with --force only, and kept beside the new one under its name with
.before-speedloader; --uninstall puts it back. A second run changes nothing.

With --root, all paths, also of --config and --program, are beneath that directory, and no link in
it leads out: for images and packages.

Examples:
  speedloader install --dry-run
  speedloader install --yes --now
  speedloader install --fstab
  speedloader install --uninstall
  speedloader install --root /mnt/image --program /usr/bin/speedloader --yes")]
pub(super) struct Arguments {
    /// A line of /etc/fstab instead of a service
    #[arg(long, conflicts_with = "uninstall")]
    fstab: bool,

    /// Take back what was installed, by whichever way
    #[arg(long)]
    uninstall: bool,

    /// Also give the commands that make it count: systemctl, or mount
    #[arg(long, conflicts_with = "root")]
    now: bool,

    /// Change without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,

    /// Only show what would change
    #[arg(long)]
    dry_run: bool,

    /// Replace, or remove, also what others wrote or changed, and keep it
    #[arg(long)]
    force: bool,

    /// Write beneath this directory instead of /
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The program that is to be run [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

pub(super) fn run(
    arguments: &Arguments,
    pages: &[Page],
    context: &mut Context<'_>,
) -> Result<(), Message> {
    let top = arguments.root.as_deref().unwrap_or(Path::new("/"));
    let root = Root::open(top).map_err(|error| {
        let text = format!("--root: {} cannot be entered: {error}", top.display());
        Message::new(Code::Usage, text).with_hint("wanted: a directory")
    })?;
    let program = program(arguments)?;
    let plan = match arguments.uninstall {
        true => {
            // What is installed is taken back, whatever has become of its configuration.
            let known = configuration(&root, context).ok();
            let mountpoint = known
                .as_ref()
                .and_then(|(_, config)| config.mountpoint.as_deref());
            install::plan_removal(&root, &program, mountpoint, pages, arguments.force)?
        }
        false => {
            let (path, config) = configuration(&root, context)?;
            let mountpoint = mountpoint(&root, &path, &config)?;
            let wish = Wish {
                program: &program,
                config: &path,
                mountpoint,
                way: match arguments.fstab {
                    true => Way::Fstab,
                    false => Way::Service,
                },
                pages,
                force: arguments.force,
            };
            install::plan(&root, &wish)?
        }
    };
    if arguments.now && plan.commands.is_empty() && !arguments.uninstall {
        let text = "--now: systemd does not run here, so there is nothing to start it with";
        return Err(
            Message::new(Code::Unsupported, text).with_hint("leave --now out, or use --fstab")
        );
    }
    carry_out(arguments, &root, plan, context)
}

/// Shows a plan, asks, and does it.
fn carry_out(
    arguments: &Arguments,
    root: &Root,
    mut plan: Plan,
    context: &mut Context<'_>,
) -> Result<(), Message> {
    let is_unchanged = plan.changes.is_empty();
    if is_unchanged && !arguments.now {
        plan.commands.clear();
    }
    let mut view = install::view(root, &plan);
    if arguments.dry_run || (is_unchanged && plan.commands.is_empty()) {
        return context.show(&View::Install(view));
    }
    let json = context.global.json;
    if !arguments.yes {
        let answers = context.console.answers.take().filter(|_| !json);
        context.show(&View::Install(view.clone()))?;
        let Some(mut answers) = answers else {
            let text = "nothing was changed: nobody can be asked here";
            return Err(
                Message::new(Code::Usage, text).with_hint("--yes makes the changes that are shown")
            );
        };
        if !agrees(answers.as_mut(), context)? {
            return context.print("Nothing was changed.\n");
        }
    } else if !json {
        context.show_change(&View::Install(view.clone()))?;
    }
    install::apply(root, &plan.changes)?;
    if arguments.now {
        plan.commands.iter().try_for_each(|words| give(words))?;
        view.ran = true;
    }
    if !is_unchanged {
        view.state = InstallState::Done;
    }
    match (json, context.global.quiet) {
        (true, _) => context.show(&View::Install(view)),
        (false, true) => Ok(()),
        (false, false) => context.print(&view.ending()),
    }
}

fn agrees(answers: &mut dyn BufRead, context: &mut Context<'_>) -> Result<bool, Message> {
    context.print("Change that? [y/N]: ")?;
    let mut line = String::new();
    // Nobody there is no agreement.
    let is_answered = matches!(answers.read_line(&mut line), Ok(1..));
    let answer = line.trim().to_ascii_lowercase();
    Ok(is_answered && ["y", "yes"].contains(&answer.as_str()))
}

/// Gives a command, and waits for its end.
fn give(words: &[String]) -> Result<(), Message> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let given = words.join(" ");
    let failed = |why: String| {
        let text = format!("`{given}` failed: {why}");
        Message::new(Code::Failed, text).with_hint("the files are written; give it by hand")
    };
    // What it prints is for people, and our own output may be for a program.
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(format!("{}; {}", output.status, told.trim()))),
    }
}

/// The program as root will run it.
fn program(arguments: &Arguments) -> Result<PathBuf, Message> {
    if let Some(program) = &arguments.program {
        if !program.is_absolute() {
            let text = format!("--program: {} is no absolute path", program.display());
            return Err(
                Message::new(Code::Usage, text).with_hint("such as /usr/local/bin/speedloader")
            );
        }
        return Ok(program.clone());
    }
    let own = std::env::current_exe().ok();
    let own = own.filter(|path| path.exists()).ok_or_else(|| {
        let text = "this program's file is gone";
        Message::new(Code::Failed, text).with_hint("name the one that is to be run by --program")
    })?;
    // Where it is as seen from there, if it is there.
    let within = arguments
        .root
        .as_deref()
        .and_then(|root| root.canonicalize().ok());
    let within = within.and_then(|root| own.strip_prefix(root).ok().map(Path::to_owned));
    Ok(within.map_or(own, |path| Path::new("/").join(path)))
}

/// The configuration as a service will read it: without this shell's variables, as root.
fn configuration(root: &Root, context: &Context<'_>) -> Result<(PathBuf, Config), Message> {
    let named = context.global.config.clone();
    let named = named.or_else(|| {
        context
            .console
            .variable("SPEEDLOADER_CONFIG")
            .map(PathBuf::from)
    });
    let places = match named {
        Some(path) => vec![std::path::absolute(&path).unwrap_or(path)],
        None => system_places().to_vec(),
    };
    let mut missing = None;
    for path in places {
        let contents = match root.contents(&path) {
            Ok(contents) => contents,
            Err(error) => {
                missing.get_or_insert((path, error));
                continue;
            }
        };
        let sources = Sources {
            file: Some(File {
                path: path.clone(),
                contents,
            }),
            account: Account::root(),
            ..Sources::default()
        };
        let config = load(&sources).map_err(|faults| bad_config(Some(&path), &faults))?;
        return Ok((path, config));
    }
    let text = missing.map_or_else(String::new, |(path, error)| {
        format!(
            "the configuration {} cannot be read: {error}",
            path.display()
        )
    });
    Err(Message::new(Code::BadConfig, text)
        .with_hint("`speedloader setup` writes a first one; --config names another"))
}

/// Where it is mounted, if nothing keeps it from that.
fn mountpoint<'c>(root: &Root, path: &Path, config: &'c Config) -> Result<&'c Path, Message> {
    if root.is_machine() {
        let faults = misplaced(config);
        if !faults.is_empty() {
            return Err(bad_config(Some(path), &faults));
        }
    }
    config.mountpoint.as_deref().ok_or_else(|| {
        let text = format!("{} has no `mountpoint`", path.display());
        Message::new(Code::BadConfig, text)
            .with_hint("wanted: the directory where models shall be seen, such as mountpoint = \"/mnt/models\"")
    })
}

/// Manual pages and completions as files of an installation.
pub(super) fn pages(
    manual: Vec<(String, Vec<u8>)>,
    completions: Vec<(&'static str, String)>,
) -> Vec<Page> {
    let manual = manual.into_iter().map(|(name, text)| Page {
        path: Path::new("man/man1").join(name),
        reader: "man".into(),
        comment: ".\\\"",
        text,
    });
    let completions = completions.into_iter().filter_map(|(name, text)| {
        let (path, reader) = match Path::new(name).extension().and_then(OsStr::to_str) {
            Some("bash") => ("bash-completion/completions/speedloader", "bash-completion"),
            Some("fish") => ("fish/vendor_completions.d/speedloader.fish", "fish"),
            None => ("zsh/site-functions/_speedloader", "zsh"),
            Some(_) => return None,
        };
        Some(Page {
            path: path.into(),
            reader: reader.into(),
            comment: "#",
            text: text.into_bytes(),
        })
    });
    manual.chain(completions).collect()
}
