//! The crate through its front door: right and wrong configurations, all sources, nothing ever panics.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use crate::*;

/// Sources with only this file, for root.
fn file(text: &str) -> Sources {
    let path = PathBuf::from("/c.toml");
    let file = Some(File {
        path,
        contents: text.as_bytes().to_vec(),
    });
    Sources {
        file,
        account: Account::root(),
        ..Sources::default()
    }
}

fn loaded(sources: &Sources) -> Config {
    load(sources).unwrap_or_else(|faults| panic!("{faults}\nin:\n{sources:?}"))
}

fn faults(sources: &Sources) -> Faults {
    match load(sources) {
        Ok(config) => panic!("accepted {sources:?} as {config:?}"),
        Err(faults) => faults,
    }
}

fn pair(key: &str, text: &str) -> (String, String) {
    (key.to_owned(), text.to_owned())
}

fn variable(name: &str, text: &str) -> (OsString, OsString) {
    (name.into(), text.into())
}

/// The place that follows from the name was a second fault.
#[test]
fn a_wrong_name_of_a_pool_is_one_fault() {
    for (one, two) in [("p", "p"), ("p", "p/b"), ("p", "..")] {
        let text = format!(
            "models_dir = \"/m\"\n[[pool]]\nname = \"{one}\"\n[[pool]]\nname = \"{two}\"\n"
        );
        let found = faults(&file(&text));
        assert_eq!(found.count(), 1, "{found}");
        assert!(found.to_string().contains("pool[1].name"), "{found}");
    }
}

#[test]
fn a_colon_of_a_name_is_escaped() {
    for (given, wanted) in [
        ("/a:/b", &["/a", "/b"][..]),
        (r"/a\:b:/c", &["/a:b", "/c"]),
        (r"/a\\:b\:", &[r"/a\:b:"]),
        (r":/a\b::/c\", &[r"/a\b", r"/c\"]),
    ] {
        let options = vec![pair("models_dir", "/m"), pair("cold", given)];
        let config = loaded(&Sources {
            options,
            ..Sources::default()
        });
        let cold: Vec<_> = config.cold.iter().map(|cold| cold.path.as_path()).collect();
        assert_eq!(
            cold,
            wanted.iter().map(Path::new).collect::<Vec<_>>(),
            "{given}"
        );
    }
}

const DESIGN: &str = include_str!("tests/design.toml");
const LEGACY: &str = include_str!("tests/legacy.json");

/// A file that the tests compare with what the code makes of it; written again if `SPEEDLOADER_REGENERATE` is set.
fn is_generated(path: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SPEEDLOADER_REGENERATE").is_some() {
        std::fs::write(&path, generated).expect("the tree is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let line = committed
        .lines()
        .zip(generated.lines())
        .position(|(a, b)| a != b);
    assert!(
        committed == generated,
        "{} is not what the code generates (first difference: line {:?});\n\
         to write it again: SPEEDLOADER_REGENERATE=1 cargo test -p speedloader-config",
        path.display(),
        line.map(|line| line + 1),
    );
}

#[test]
fn what_the_original_allows_is_taken_as_it_is_meant() {
    let of = |backend: &str, kind: &str| {
        let text = format!(
            r#"{{"modelsDir": "/m", "storage": {{"path": "/c", "type": "{kind}"}}, "backend": {{"apiUrl": "{backend}"}}}}"#
        );
        let config = loaded(&file(&text));
        (config.engines.ask, config.cold[0].kind.word())
    };
    let engine = vec!["http://gpu:8080".to_owned()];
    assert_eq!(of("http://gpu:8080/", "gpfs"), (engine, "other"));
    assert_eq!(of("https://gpu/api", "nfs"), (Vec::new(), "nfs"));
}

#[test]
fn engines_are_asked_at_plain_addresses_only() {
    let load_with = |ask: &str| {
        let options = vec![pair("models_dir", "/m"), pair("engines.ask", ask)];
        load(&Sources {
            options,
            ..Sources::default()
        })
    };
    for right in [
        "",
        "http://127.0.0.1:11434",
        "http://localhost:8080,http://[::1]:8000",
        "http://gpu-2.example.com:8080",
    ] {
        assert!(load_with(right).is_ok(), "{right}");
    }
    for wrong in [
        "127.0.0.1:11434",
        "https://a:1",
        "http://a",
        "http://a:99999",
        "http://:80",
        "http://user@a:80",
        "http://a:80/path",
        "http://a b:80",
    ] {
        let refused = load_with(wrong).expect_err(wrong);
        assert_eq!(refused.faults[0].key, "engines.ask", "{wrong}");
    }
}

/// They were taken, and matched nothing.
#[test]
fn names_of_this_machine_are_plain_names() {
    let load_with = |hosts: &str| {
        let options = vec![pair("models_dir", "/m"), pair("http.hosts", hosts)];
        load(&Sources {
            options,
            ..Sources::default()
        })
    };
    assert!(load_with("models.example.com").is_ok());
    for wrong in ["models.lan:5050", "https://models.lan", "*", "*.lan"] {
        let refused = load_with(wrong).expect_err(wrong);
        assert_eq!(refused.faults[0].key, "http.hosts", "{wrong}");
    }
}

#[test]
fn other_machines_need_a_token() {
    let load_with = |listen: &str, rest: &[(&str, &str)]| {
        let mut options = vec![pair("models_dir", "/m"), pair("http.listen", listen)];
        options.extend(rest.iter().map(|(key, value)| pair(key, value)));
        load(&Sources {
            options,
            ..Sources::default()
        })
    };
    let refused = load_with("0.0.0.0:5050", &[]).expect_err("no token");
    assert_eq!(refused.faults[0].key, "http.listen");
    for fine in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1"] {
        assert!(load_with(fine, &[]).is_ok(), "{fine}");
    }
    assert!(load_with("10.0.0.9:1", &[("http.token", "0123456789abcdef")]).is_ok());
    assert!(load_with("10.0.0.9:1", &[("http.enabled", "false")]).is_ok());
}

/// The text of two paths does not show that one leads to the other.
#[test]
fn directories_that_meet_behind_links_are_told() {
    let config = loaded(&file(
        "models_dir = \"/m\"\nstate_dir = \"/link\"\n[[cold]]\npath = \"/c\"\n",
    ));
    assert!(misplaced(&config, Path::to_owned).is_empty());
    let follow = |path: &Path| match path == Path::new("/link") {
        true => PathBuf::from("/m/x"),
        false => path.to_owned(),
    };
    assert_eq!(
        misplaced(&config, follow).to_string().trim_end(),
        "/c.toml:2:13: state_dir: found a way to \"/m/x\", which is inside models_dir (/c.toml:1:14), \
         wanted a directory apart from models and pools"
    );
}

#[test]
fn the_design_loads() {
    let config = loaded(&file(DESIGN));
    assert_eq!(config.models_dir, Path::new("/var/lib/speedloader/models"));
    assert_eq!(config.mountpoint.as_deref(), Some(Path::new("/mnt/models")));
    assert_eq!(config.cold[0].kind, ColdKind::Beegfs);
    assert_eq!(config.cold[0].rescan_interval, Duration::from_secs(300));
    let pool = &config.pools[0];
    assert_eq!(pool.name.as_str(), "local");
    assert_eq!(pool.capacity, Capacity::Bytes(Bytes(64 << 30)));
    assert_eq!(
        (pool.huge_pages, pool.noswap, pool.mount),
        (HugePages::Always, true, true)
    );
    let remote = config.remotes.values().next().expect("meadowlark");
    assert_eq!((remote.transport, remote.port), (Transport::Rdma, 4420));
    assert_eq!(config.pins["llama3.2-vision:90b"].as_str(), "meadowlark");
    assert_eq!(config.policy.memory_reserve.to_string(), "8GiB");
    assert_eq!(
        config.control.group.as_ref().map(Group::as_str),
        Some("speedloader")
    );
    assert_eq!(config.control.mode, Mode(0o660));
    assert!(config.warnings.is_empty());
}

#[test]
fn the_originals_configuration_means_the_same() {
    let config = loaded(&file(LEGACY));
    let toml = to_toml(&config);
    let again = loaded(&file(&toml));
    assert_eq!(changes(&config, &again), [], "{toml}");
    let expected = r#"models_dir = "/var/lib/speedloader/models"

[[cold]]
path = "/mnt/beegfs/ollama/models"
kind = "beegfs"

[[pool]]
path = "/mnt/ollama-ramdisk"
capacity = "200GiB"

[remote.meadowlark]
ssh = "service@meadowlark.example.com"
address = "10.0.40.2"
transport = "rdma"
capacity = "128GiB"

[placement]
strategy = "fastest-fit"

[placement.pins]
"llama3.2-vision:90b" = "meadowlark"

[engines]
ask = ["http://localhost:11434"]
"#;
    assert_eq!(toml, expected);
}

#[test]
fn options_win_over_variables_over_the_file_over_defaults() {
    let mut sources = file("models_dir = \"/m\"\n[mover]\nthreads = 2\nchunk = \"1MiB\"\n");
    let values = |sources: &Sources| {
        let config = loaded(sources);
        let origin = config.origins.get("mover.threads").map(Origin::to_string);
        (
            config.mover.threads,
            config.mover.chunk,
            config.mover.concurrent,
            origin,
        )
    };
    let in_file = (2, Bytes(1 << 20), 1, Some("/c.toml:3:11".to_owned()));
    assert_eq!(values(&sources), in_file);
    sources
        .environment
        .push(variable("SPEEDLOADER_MOVER_THREADS", "3"));
    let in_variable = (
        3,
        Bytes(1 << 20),
        1,
        Some("environment SPEEDLOADER_MOVER_THREADS".to_owned()),
    );
    assert_eq!(values(&sources), in_variable);
    sources.options.push(pair("mover.threads", "4"));
    let in_option = (
        4,
        Bytes(1 << 20),
        1,
        Some("option mover.threads".to_owned()),
    );
    assert_eq!(values(&sources), in_option);
    sources.options.push(pair("mover.threads", "5"));
    assert_eq!(values(&sources).0, 5, "the later of two options wins");
}

#[test]
fn lists_given_as_options_replace_those_of_the_file() {
    let mut sources = file(DESIGN);
    sources.options.push(pair("pool.local.capacity", "1GiB"));
    let config = loaded(&sources);
    assert_eq!(config.pools[0].capacity.to_string(), "1GiB");
    assert_eq!(
        config.pools[0].path,
        Path::new("/mnt/pools/local"),
        "the rest stays as it was"
    );

    sources
        .options
        .extend([pair("pool", "fast:2GiB:/fast"), pair("pool", "3GiB")]);
    sources
        .options
        .extend([pair("cold", "/a:/b"), pair("cold", "/c")]);
    sources
        .options
        .push(pair("placement.pins.llama3.2-vision:90b", "fast"));
    sources.options.push(pair("remote.meadowlark.port", "4421"));
    let config = loaded(&sources);
    let pools: Vec<String> = config
        .pools
        .iter()
        .map(|p| format!("{} {} {:?}", p.name, p.capacity, p.path))
        .collect();
    assert_eq!(
        pools,
        [
            "fast 2GiB \"/fast\"",
            "local 3GiB \"/run/speedloader/pools/local\""
        ]
    );
    let cold: Vec<_> = config.cold.iter().map(|cold| cold.path.as_path()).collect();
    assert_eq!(cold, [Path::new("/a"), Path::new("/b"), Path::new("/c")]);
    assert_eq!(config.pins["llama3.2-vision:90b"].as_str(), "fast");
    assert_eq!(config.remotes.values().next().map(|r| r.port), Some(4421));

    sources.environment.push(variable("SPEEDLOADER_COLD", "/z"));
    let config = loaded(&sources);
    assert_eq!(
        config.cold.len(),
        3,
        "options replace the variable's list too"
    );
}

#[test]
fn an_ordinary_user_has_places_of_their_own() {
    let account = Account {
        uid: 1000,
        home: Some("/home/ada".into()),
        runtime_dir: Some("/run/user/1000".into()),
    };
    let options = vec![pair("models_dir", "/m"), pair("pool", "1GiB")];
    let mut sources = Sources {
        options,
        account,
        ..Sources::default()
    };
    let config = loaded(&sources);
    assert_eq!(
        config.state_dir,
        Path::new("/home/ada/.local/state/speedloader")
    );
    assert_eq!(
        config.control.socket,
        Path::new("/run/user/1000/speedloader/control.sock")
    );
    assert_eq!(
        config.pools[0].path,
        Path::new("/dev/shm/speedloader-1000/local")
    );
    assert!(!config.pools[0].mount && !config.mount.allow_other);

    sources.account = Account {
        uid: 1000,
        home: None,
        runtime_dir: None,
    };
    let expected =
        "state_dir: found nothing, wanted a value, because its default cannot be derived here";
    assert_eq!(faults(&sources).to_string(), expected);
    sources.account = Account::root();
    let config = loaded(&sources);
    assert_eq!(config.state_dir, Path::new("/var/lib/speedloader/state"));
    assert!(config.pools[0].mount && config.mount.allow_other);
}

#[test]
fn variables_that_nobody_knows_are_warnings_unless_they_are_nearly_known() {
    let mut sources = file("models_dir = \"/m\"");
    sources.environment = vec![
        // What Kubernetes sets for a service of our name.
        variable("SPEEDLOADER_SERVICE_HOST", "10.0.0.1"),
        variable("SPEEDLOADER_SERVICE_PORT", "1"),
        variable("SPEEDLOADER_SERVICE_PORT_HTTP", "1"),
        variable("SPEEDLOADER_PORT", "tcp://10.0.0.1:1"),
        variable("SPEEDLOADER_PORT_1_TCP", "1"),
        variable("SPEEDLOADER_PORT_1_TCP_ADDR", "1"),
        variable("SPEEDLOADER_PORT_1_TCP_PORT", "1"),
        variable("SPEEDLOADER_PORT_1_TCP_PROTO", "tcp"),
        variable("SPEEDLOADER_CONFIG", "/elsewhere"),
        variable("SPEEDLOADER_LOG_LEVEL", ""),
        variable("PATH", "/bin"),
        (
            OsString::from_vec(vec![0xff]),
            OsString::from_vec(vec![0xff]),
        ),
    ];
    let warnings = loaded(&sources).warnings;
    assert_eq!(warnings.len(), 8, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.hint.is_none()));
    let misspelt = variable("SPEEDLOADER_HTP_LISTEN", "x");
    sources.environment.push(misspelt);
    let faults = faults(&sources);
    let hints: Vec<_> = faults
        .faults
        .iter()
        .map(|fault| fault.hint.as_deref())
        .collect();
    assert_eq!(hints, [Some("did you mean `SPEEDLOADER_HTTP_LISTEN`?")]);
}

#[test]
fn wrong_variables_and_options_are_named() {
    let mut sources = file("models_dir = \"/m\"\n[[pool]]\n");
    sources.environment = vec![
        variable("SPEEDLOADER_MOVER_THREADS", "many"),
        (
            "SPEEDLOADER_MODELS_DIR".into(),
            OsString::from_vec(vec![0xff]),
        ),
    ];
    sources.options = vec![
        pair("http.listen", "here"),
        pair("http.lisen", "127.0.0.1:1"),
        pair("pool.locl.capacity", "1G"),
        pair("pool.local.capcity", "1G"),
        pair("pool.local", "1G"),
        pair("remote.a.sh", "h"),
        pair("placement.pins.", "local"),
        pair("policy.enabled", "maybe"),
        pair("policy.never", "a,\x1b"),
    ];
    let expected = r#"environment SPEEDLOADER_MODELS_DIR: models_dir: found bytes that are not UTF-8, wanted a text in UTF-8
environment SPEEDLOADER_MOVER_THREADS: mover.threads: found "many", wanted a whole number
option http.lisen: found the unknown option "http.lisen", wanted an option of mount(8) or a key of the configuration, such as `pool=64GiB`; did you mean `http.listen`?
option http.listen: http.listen: found "here", wanted an IP address and a port, such as "127.0.0.1:5050"
option placement.pins.: placement.pins."": found a strange name of a model, wanted text without control characters
option policy.enabled: policy.enabled: found "maybe", wanted true or false
option policy.never: policy.never: found "a,\u{1b}", wanted strings that are neither empty nor hold control characters
option pool.local: found the unknown option "pool.local", wanted an option of mount(8) or a key of the configuration, such as `pool=64GiB`
option pool.local.capcity: pool.local.capcity: found the unknown key "capcity", wanted one of name, path, capacity, prefault, huge_pages, noswap, mpol, mount, speed; did you mean `capacity`?
option pool.locl.capacity: pool.locl.capacity: found no pool "locl", wanted the name of a pool of the configuration; did you mean `local`?
option remote.a.sh: remote.a.sh: found the unknown key "sh", wanted one of ssh, address, transport, capacity, filesystem, nqn_prefix, port, allowed_host_nqn, dhchap_secret, tls, speed, page_cache, connect, ssh_timeout, connect_timeout, keep_alive, fast_io_fail, reconnect_delay, ctrl_loss; did you mean `ssh`?"#;
    assert_eq!(faults(&sources).to_string(), expected);
}

/// The blocks of `wrong.txt`: a configuration, a line `>>>`, the faults. A block is added by writing the
/// configuration and generating the faults, then reading them.
#[test]
fn wrong_configurations_say_what_where_and_what_would_be_right() {
    let mut generated = String::new();
    let text = include_str!("tests/wrong.txt");
    let blocks: Vec<&str> = text.split("\n----\n").collect();
    assert!(blocks.len() >= 60, "only {} blocks", blocks.len());
    for (i, block) in blocks.iter().enumerate() {
        let configuration = block.split("\n>>>").next().unwrap_or(block);
        let faults = faults(&file(configuration.trim_end()));
        let gap = if i > 0 { "\n----\n" } else { "" };
        let _ = write!(
            generated,
            "{gap}{}\n>>>\n{faults}",
            configuration.trim_end()
        );
    }
    is_generated("src/tests/wrong.txt", &(generated + "\n"));
}

#[test]
fn faults_are_data_too() {
    let faults = faults(&file("models_dir = \"/m\"\nhtp = 1\n"));
    let json = serde_json::to_value(&faults).expect("plain data");
    let fault = &json["faults"][0];
    assert_eq!(fault["key"], "htp");
    let place = serde_json::json!({"source": "file", "file": "/c.toml", "line": 2, "column": 1});
    assert_eq!(fault["at"], place);
    assert_eq!(fault["hint"], "did you mean `http`?");
}

#[test]
fn the_sample_is_generated_and_says_the_defaults() {
    is_generated("../contrib/config.toml", &sample());
    let config = loaded(&file(&sample()));
    let bare = loaded(&file("models_dir = \"/var/lib/speedloader/models\""));
    assert_eq!(changes(&bare, &config), []);
    assert_eq!(
        config.origins.len(),
        1,
        "only what must be set is not commented out"
    );
}

#[test]
fn the_samples_comments_are_right_when_uncommented() {
    let uncommented: Vec<&str> = sample_lines().collect();
    let text = uncommented.join("\n");
    let config = loaded(&file(&text));
    let mut entries = config.entries().into_iter();
    assert_eq!(
        (config.pools.len(), config.cold.len(), config.remotes.len()),
        (1, 1, 1)
    );
    assert!(entries.all(|entry| match entry.field().default {
        DefaultValue::Value(_) | DefaultValue::Required(_) => entry.origin != Origin::Default,
        _ => entry.origin == Origin::Default,
    }));
    let bare = "models_dir = \"/var/lib/speedloader/models\"\n[[cold]]\npath = \"/mnt/nas/models\"\n\
                [[pool]]\n[remote.meadowlark]\nssh = \"service@meadowlark.example.com\"\n\
                address = \"10.0.40.2\"";
    assert_eq!(
        changes(&loaded(&file(bare)), &config),
        [],
        "the sample's values are the defaults"
    );
}

/// The sample with every comment that holds a value made a line.
fn sample_lines() -> impl Iterator<Item = &'static str> {
    static SAMPLE: std::sync::LazyLock<String> = std::sync::LazyLock::new(sample);
    SAMPLE
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.ends_with(" = ..."))
        .map(|line| line.trim_start_matches('#'))
}

#[test]
fn what_is_shown_loads_again() {
    let config = loaded(&file(DESIGN));
    for origins in [false, true] {
        let shown = show(&config, origins);
        assert_eq!(changes(&config, &loaded(&file(&shown))), [], "{shown}");
    }
    let shown = show(&config, true);
    let lines = [
        "capacity = \"64GiB\"  # /c.toml:12:12\n",
        "threads = 16  # default\n",
        "# mpol is not set\n",
        "\n[placement.pins]\n\"llama3.2-vision:90b\" = \"meadowlark\"  # /c.toml:24:25\n",
    ];
    for line in lines {
        assert!(shown.contains(line), "{line} is not in:\n{shown}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let text = "models_dir = \"/m\"\n[http]\ntoken = \"correct-horse-battery\"\n";
    let config = loaded(&file(text));
    let shown = show(&config, true);
    assert!(
        shown.contains("# token is set, and secret") && !shown.contains("horse"),
        "{shown}"
    );
    loaded(&file(&shown));
    let other = loaded(&file(&text.replace("horse", "mule")));
    let differences = changes(&config, &other);
    assert_eq!(differences.len(), 1, "a change of a secret is a change");
    assert!(!format!("{differences:?}").contains("mule"));
    let wrong = faults(&file(&text.replace("-battery", "!")));
    assert!(!wrong.to_string().contains("horse"), "{wrong}");
    assert!(!format!("{config:?}").contains("horse"));
}

#[test]
fn no_fault_quotes_a_secret() {
    for wrong in [
        "[http]\ntoken = correct-horse-battery\n",
        "[http]\ntoken = \"correct-horse\n",
        "[http]\ntoken =\ncorrect-horse-battery\n",
        "[http]\ntoken = 'x' correct-horse\n",
        "[http]\ntoken = [\"correct-horse\"]\n",
        "[http]\ntoken = { horse = 1 }\n",
        "[remote]\ndhchap_secret = \"correct-horse-battery\"\n",
        "[remote.a]\ndhchap_secret = \"correct-horse-battery\"\n",
    ] {
        let faults = faults(&file(&format!("models_dir = \"/m\"\n{wrong}")));
        assert!(!faults.to_string().contains("horse"), "{faults}");
    }
}

#[test]
fn changes_say_what_they_need() {
    let old = loaded(&file(DESIGN));
    let edits: &[(&str, &str, &str)] = &[
        (
            "\"64GiB\"",
            "\"65GiB\"",
            "pool.local.capacity \"64GiB\" -> \"65GiB\" live",
        ),
        (
            "\"always\"",
            "\"never\"",
            "pool.local.huge_pages \"always\" -> \"never\" remount",
        ),
        (
            "/mnt/pools/local",
            "/mnt/p",
            "pool.local.path \"/mnt/pools/local\" -> \"/mnt/p\" refused",
        ),
        (
            "/mnt/models",
            "/mnt/m",
            "mountpoint \"/mnt/models\" -> \"/mnt/m\" refused",
        ),
        (
            "group = \"speedloader\"",
            "",
            "control.group \"speedloader\" -> - remount",
        ),
        (
            "\"llama3.2-vision:90b\"",
            "\"b\"",
            "placement.pins.b - -> \"meadowlark\" live",
        ),
        (
            "enabled = true",
            "enabled = false",
            "policy.enabled true -> false live",
        ),
        (
            "[[pool]]",
            "[[cold]]\npath = \"/n\"\n[[pool]]",
            "cold[1].path - -> \"/n\" remount",
        ),
        (
            "[[pool]]",
            "[[pool]]\nname = \"a\"\n[[pool]]",
            "pool.a.capacity - -> \"50%\" live",
        ),
    ];
    for (from, to, expected) in edits {
        let new = loaded(&file(&DESIGN.replacen(from, to, 1)));
        let told: Vec<String> = changes(&old, &new).iter().map(told).collect();
        assert!(
            told.iter().any(|change| change == expected),
            "{expected} is not in {told:#?}"
        );
        assert_eq!(changes(&new, &new), []);
    }
    let without = DESIGN.replace(
        "[placement.pins]\n\"llama3.2-vision:90b\" = \"meadowlark\"\n",
        "",
    );
    let gone: Vec<String> = changes(&old, &loaded(&file(&without)))
        .iter()
        .map(told)
        .collect();
    assert_eq!(
        gone,
        ["placement.pins.\"llama3.2-vision:90b\" \"meadowlark\" -> - live"]
    );
}

fn told(change: &Change) -> String {
    let side = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
    let effect = match change.effect {
        Effect::Live => "live",
        Effect::Remount => "remount",
        Effect::Refused(_) => "refused",
    };
    format!(
        "{} {} -> {} {effect}",
        change.key,
        side(&change.old),
        side(&change.new)
    )
}

#[test]
fn files_are_read_or_refused_plainly() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("config.toml");
    let message = |path: &Path| match load_path(path, Sources::default()) {
        Ok(_) => "accepted".to_owned(),
        Err(faults) => faults.faults[0].found.clone(),
    };
    assert!(message(&path).starts_with("none that can be read (No such file"));
    assert_eq!(message(dir.path()), "something that is not a file");
    std::fs::write(&path, "models_dir = \"/m\"").expect("written");
    assert_eq!(message(&path), "accepted");
    let large = vec![b'#'; usize::try_from(FILE_LEN_MAX).expect("small") + 1];
    std::fs::write(&path, large).expect("written");
    assert_eq!(message(&path), "more than 1MiB");
    std::fs::write(&path, b"models_dir = \"/m\"\n# \xff").expect("written");
    let faults = load_path(&path, Sources::default()).expect_err("not UTF-8");
    assert!(
        faults
            .to_string()
            .contains("config.toml:2:3: found a byte that is not UTF-8"),
        "{faults}"
    );
}

/// What would make a careless reader slow, deep or large: it only has to come to an end.
#[test]
fn hostile_files_come_to_an_end() {
    let many = |unit: &str| unit.repeat((1 << 15) / unit.len());
    for text in [
        many("["),
        format!("a = {}", many("[")),
        format!("a = {}", many("{a=")),
        many("=\n"),
        many("[[pool]]\n"),
        many("[[cold]]\npath = '/a'\n"),
        format!("pool = [{}]", many("{},")),
        format!("policy.never = [{}]", many("'a',")),
        (0..5_000).map(|i| format!("k{i} = 1\n")).collect(),
        (0..2_000).map(|i| format!("[remote.r{i}]\n")).collect(),
        format!(
            "[placement.pins]\n{}",
            (0..2_000)
                .map(|i| format!("m{i} = 'x'\n"))
                .collect::<String>()
        ),
        format!("{{{}", many("\"a\":{")),
        format!("{{\"a\":{}", many("[")),
        format!("{{{}\"a\":1}}", many("\"a\":1,")),
        format!("models_dir = \"{}\"", many("/..")),
    ] {
        let faults = faults(&file(&text));
        assert!(faults.faults.len() <= Faults::LISTED_MAX);
        assert!(faults.to_string().len() < 100_000);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(contents in proptest::collection::vec(any::<u8>(), 0..400)) {
        for start in ["", "{", "[[pool]]\n", "models_dir = "] {
            let contents = [start.as_bytes(), &contents].concat();
            let path = PathBuf::from("/c");
            let _ = load(&Sources { file: Some(File { path, contents }), ..Sources::default() });
        }
    }

    /// Pieces of a right configuration in any order, a few of them broken.
    #[test]
    fn shuffled_lines_never_panic(
        picks in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..60, "[\"\\[\\]{}=., 0-9a-z%é\n]{0,4}"), 0..25),
        cut in any::<bool>(),
    ) {
        let lines: Vec<&str> = DESIGN.lines().chain(sample_lines()).collect();
        let mut text = String::new();
        for (index, at, piece) in &picks {
            let line = index.get(&lines);
            let at = line.char_indices().map(|(i, _)| i).nth(*at).unwrap_or(line.len());
            let (head, tail) = line.split_at(at);
            text += head;
            text += if cut { piece } else { "" };
            text += tail;
            text.push('\n');
        }
        let mut sources = file(&text);
        if let Err(faults) = load(&sources) {
            prop_assert!(!faults.is_empty() && !faults.to_string().is_empty());
        }
        sources.file = Some(File { path: "/c".into(), contents: format!("{{{text}").into_bytes() });
        let _ = load(&sources);
    }

    #[test]
    fn random_json_never_panics(picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6)) {
        let mut pieces: Vec<&str> = LEGACY.split_inclusive(['{', '}', ',', ':']).collect();
        for (a, b) in picks {
            let (a, b) = (a.index(pieces.len()), b.index(pieces.len()));
            pieces.swap(a, b);
        }
        let _ = load(&file(&pieces.concat()));
    }

    #[test]
    fn random_options_never_panic(key in "(pool|cold|remote|placement|http|\\.|pins|capacity|[a-z]|:){0,6}", text in "\\PC{0,12}") {
        let options = vec![(key.clone(), text.clone())];
        let environment = vec![(format!("SPEEDLOADER_{}", key.to_uppercase()).into(), text.into())];
        let _ = load(&Sources { options, environment, ..file(DESIGN) });
    }
}
