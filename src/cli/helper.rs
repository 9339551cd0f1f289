//! The form in which mount(8) and mount.fuse(8) call us: `SOURCE MOUNTPOINT [-sfnvrw] [-o OPTIONS]
//! [-t TYPE]`, in any order. Ends with the statuses of mount(8): 0 mounted, 1 wrong usage, 32 no mount.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::CommandFactory;
use speedloader_config::{MountOptions, parse_mount_options};

use super::args::Arguments;
use super::console::Console;
use super::mount::option;
use super::settings::{faulty, load_config};
use super::spawn;
use crate::command::{Code, Message};
use crate::view::human;

/// Sources that are only names, whatever there is of that name.
const NAMES: [&str; 2] = ["speedloader", "none"];
const USAGE: u8 = 1;
const NO_MOUNT: u8 = 32;
const USAGE_TEXT: &str =
    "usage: mount.fuse.speedloader SOURCE MOUNTPOINT [-sfnvrw] [-o OPTIONS] [-t TYPE]";

/// What mount(8) has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Helper {
    source: OsString,
    mountpoint: OsString,
    /// All -o together, joined by commas.
    options: String,
    /// -f: everything but the mount.
    fake: bool,
    /// -s: options that nobody knows are ignored.
    sloppy: bool,
    verbose: bool,
}

/// The arguments after the program's name, if they are mount(8)'s: told by our own name, or by the form.
pub(super) fn detect(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = arguments.split_first()?;
    let name = Path::new(program)
        .file_name()
        .unwrap_or_default()
        .as_bytes();
    if name.starts_with(b"mount.") {
        return Some(rest.to_vec());
    }
    // mount.fuse(8) runs the file system's own name. It always gives -o and an absolute mountpoint;
    // a verb is never meant, whatever its source is called.
    let has_options = rest
        .iter()
        .any(|argument| argument.as_bytes().starts_with(b"-o"));
    let words = words(rest);
    let [source, mountpoint] = words.as_slice() else {
        return None;
    };
    let is_verb = Arguments::command()
        .get_subcommands()
        .any(|verb| verb.get_name().as_bytes() == source.as_bytes());
    let is_form = has_options && mountpoint.as_bytes().starts_with(b"/") && !is_verb;
    is_form.then(|| rest.to_vec())
}

/// Arguments that are neither flags nor a flag's value.
fn words(arguments: &[OsString]) -> Vec<&OsStr> {
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_bytes() {
            b"-o" | b"-t" | b"-N" => {
                rest.next();
            }
            [b'-', _, ..] => {}
            _ => words.push(argument.as_os_str()),
        }
    }
    words
}

/// Mounts, or says on standard error why not.
pub(super) fn run(arguments: &[OsString], console: &mut Console) -> u8 {
    let result = parse(arguments).and_then(|helper| mount(&helper, console));
    let Err((status, message)) = result else {
        return 0;
    };
    let lines: Vec<String> = message.to_string().lines().map(human::printable).collect();
    // If even this cannot be written, there is nobody to tell; the status remains.
    let _ = writeln!(
        console.err,
        "mount.fuse.speedloader: {}",
        lines.join("\n  ")
    );
    status
}

fn usage(text: String) -> (u8, Message) {
    (USAGE, Message::new(Code::Usage, text).with_hint(USAGE_TEXT))
}

fn parse(arguments: &[OsString]) -> Result<Helper, (u8, Message)> {
    let mut helper = Helper::default();
    let mut words = Vec::new();
    let mut options: Vec<String> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(flags) = argument
            .as_bytes()
            .strip_prefix(b"-")
            .filter(|flags| !flags.is_empty())
        else {
            words.push(argument);
            continue;
        };
        for (index, flag) in flags.iter().enumerate() {
            match flag {
                b'f' => helper.fake = true,
                b's' => helper.sloppy = true,
                b'v' => helper.verbose = true,
                b'r' => options.push("ro".to_owned()),
                // We keep no mtab; reading and writing is the default.
                b'n' | b'w' => {}
                b'o' | b't' | b'N' => {
                    let attached = OsStr::from_bytes(&flags[index + 1..]);
                    let value = if attached.is_empty() {
                        rest.next().map(OsString::as_os_str)
                    } else {
                        Some(attached)
                    };
                    let shown = char::from(*flag);
                    let value = value.ok_or_else(|| usage(format!("-{shown} has no value")))?;
                    if *flag == b'o' {
                        let text = value
                            .to_str()
                            .ok_or_else(|| usage("-o is not UTF-8".to_owned()))?;
                        options.push(text.to_owned());
                    }
                    break;
                }
                _ => {
                    return Err(usage(format!(
                        "`{}` is no flag that mount(8) passes on",
                        human::escape(argument.as_bytes())
                    )));
                }
            }
        }
    }
    match words.as_slice() {
        [source, mountpoint] => {
            helper.source = (*source).clone();
            helper.mountpoint = (*mountpoint).clone();
        }
        other => {
            let count = other.len();
            return Err(usage(format!(
                "SOURCE and MOUNTPOINT are wanted, but {count} such arguments were given"
            )));
        }
    }
    helper.options = options.join(",");
    Ok(helper)
}

/// What goes to the configuration: the options and the mountpoint.
fn settings(helper: &Helper) -> Result<MountOptions, (u8, Message)> {
    let mut options = if helper.sloppy {
        split(&helper.options)
            .into_iter()
            .filter_map(|one| parse_mount_options(one).ok())
            .fold(MountOptions::default(), |mut all, one| {
                all.config = one.config.or(all.config);
                all.settings.extend(one.settings);
                all
            })
    } else {
        parse_mount_options(&helper.options)
            .map_err(|faults| (USAGE, faulty(Code::Usage, "-o", &faults)))?
    };
    let text = |what: &str, path: &OsStr| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| usage(format!("{what} is not UTF-8")))
    };
    let mountpoint = std::path::absolute(&helper.mountpoint)
        .map_err(|error| usage(format!("MOUNTPOINT cannot be made absolute: {error}")))?;
    options.settings.push((
        "mountpoint".to_owned(),
        text("MOUNTPOINT", mountpoint.as_os_str())?,
    ));
    Ok(options)
}

/// The source where it is the models directory: a path, and not what mount(8) makes of a mere name if something
/// of that name is where it was called.
fn models_source(helper: &Helper, directory: &Path) -> Option<String> {
    let source = Path::new(&helper.source);
    let is_name = NAMES.iter().any(|name| source == directory.join(name));
    let path = source.to_str().filter(|_| source.is_absolute());
    path.filter(|_| !is_name).map(str::to_owned)
}

/// Adds a source that is the models directory, unless the configuration says so already.
fn settle_models(
    console: &Console,
    options: &mut MountOptions,
    source: String,
) -> Result<(), (u8, Message)> {
    let load = |settings| load_config(console, options.config.as_deref(), settings);
    let known = load(options.settings.clone());
    match known.map(|known| known.config.models_dir) {
        Ok(models) if models == Path::new(&source) => return Ok(()),
        Ok(models) => {
            let models = human::escape(models.as_os_str().as_bytes());
            let source = human::escape(source.as_bytes());
            let text = format!(
                "the models directory is {models} in the configuration, and {source} as SOURCE"
            );
            let hint = "write `speedloader` as SOURCE, or the same directory";
            return Err((USAGE, Message::new(Code::Usage, text).with_hint(hint)));
        }
        // What else is wrong with it is said when it is loaded with the source.
        Err(_) => {}
    }
    let setting = ("models_dir".to_owned(), source);
    options.settings.push(setting);
    Ok(())
}

/// At commas that no backslash precedes and no quotes surround.
fn split(options: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped, mut quoted) = (0, false, false);
    for (index, byte) in options.bytes().enumerate() {
        match byte {
            b'\\' => escaped = !escaped,
            b'"' if !escaped => quoted = !quoted,
            b',' if !escaped && !quoted => {
                parts.push(&options[start..index]);
                start = index + 1;
            }
            _ => {}
        }
        escaped = escaped && byte == b'\\';
    }
    parts.push(&options[start..]);
    parts
}

fn mount(helper: &Helper, console: &Console) -> Result<(), (u8, Message)> {
    let mut options = settings(helper)?;
    // Where it was called; if that is gone, mount(8) has found nothing there either.
    let directory = std::env::current_dir().unwrap_or_default();
    if let Some(source) = models_source(helper, &directory) {
        settle_models(console, &mut options, source)?;
    }
    load_config(console, options.config.as_deref(), options.settings.clone())
        .map_err(|message| (NO_MOUNT, message))?;
    if !Path::new(&helper.mountpoint).is_absolute() {
        return Err(usage(format!(
            "MOUNTPOINT `{}` is not absolute",
            Path::new(&helper.mountpoint).display()
        )));
    }
    if helper.fake {
        return Ok(());
    }
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(config) = options.config {
        arguments.extend([OsString::from("--config"), config.into_os_string()]);
    }
    arguments.extend(helper.verbose.then(|| OsString::from("--verbose")));
    for (key, value) in &options.settings {
        arguments.extend([OsString::from("-o"), OsString::from(option(key, value))]);
    }
    spawn::serve_in_background(&arguments)
        .map(|_| ())
        .map_err(|message| (NO_MOUNT, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn flags_come_in_any_order_and_together() {
        let wanted = Helper {
            source: "src".into(),
            mountpoint: "/mnt".into(),
            options: "rw,ro,a=b".to_owned(),
            fake: true,
            sloppy: true,
            verbose: true,
        };
        for words in [
            ["src", "/mnt", "-sfnv", "-o", "rw", "-r", "-o", "a=b"].as_slice(),
            &["-o", "rw", "-rsfv", "src", "-w", "/mnt", "-oa=b"],
            &[
                "-vo",
                "rw",
                "-sfr",
                "src",
                "-t",
                "fuse.speedloader",
                "/mnt",
                "-N",
                "4",
                "-o",
                "a=b",
            ],
        ] {
            assert_eq!(
                parse(&arguments(words)).ok().as_ref(),
                Some(&wanted),
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_name_that_mount_has_made_a_path_stays_a_name() {
        let source = |source: &str| {
            let helper = Helper {
                source: source.into(),
                ..Helper::default()
            };
            models_source(&helper, Path::new("/etc"))
        };
        for name in [
            "speedloader",
            "none",
            "/etc/speedloader",
            "/etc/none",
            "srv/m",
        ] {
            assert_eq!(source(name), None);
        }
        for path in ["/srv/speedloader", "/etc/models", "/speedloader"] {
            assert_eq!(source(path).as_deref(), Some(path));
        }
    }

    #[test]
    fn options_are_split_as_the_configuration_splits_them() {
        assert_eq!(
            split("a,b=\"c,d\",e=f\\,g,h\\\\,i"),
            ["a", "b=\"c,d\"", "e=f\\,g", "h\\\\", "i"]
        );
    }

    proptest! {
        #[test]
        fn no_arguments_panic(
            bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..8),
        ) {
            let arguments: Vec<OsString> = bytes.iter().map(|word| OsStr::from_bytes(word).to_owned()).collect();
            let _ = detect(&arguments);
            if let Ok(helper) = parse(&arguments) {
                let _ = settings(&helper);
            }
        }

        #[test]
        fn no_options_panic(options in "([a-z_.]{0,12}|ro|rw|=|,|\\\\|\"|\\PC){0,12}", sloppy in any::<bool>()) {
            let helper = Helper { options, sloppy, source: "x".into(), mountpoint: "/m".into(), ..Helper::default() };
            if let Ok(settings) = settings(&helper) {
                prop_assert!(settings.settings.iter().any(|(key, _)| key == "mountpoint"));
            }
        }
    }
}
