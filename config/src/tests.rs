//! The crate through its front door: right and wrong configurations, all sources, nothing ever panics.

use std::path::PathBuf;

use crate::{Account, Config, Faults, File, Sources, load};

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

fn loaded(text: &str) -> Config {
    load(&file(text)).unwrap_or_else(|faults| panic!("{faults}\nin:\n{text}"))
}

fn faults(text: &str) -> Faults {
    match load(&file(text)) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(faults) => faults,
    }
}

/// The configuration of the design.
const DESIGN: &str = r#"
models_dir = "/var/lib/speedloader/models"
mountpoint = "/mnt/models"
state_dir  = "/var/lib/speedloader/state"

[[cold]]
path = "/mnt/beegfs/ollama/models"
kind = "beegfs"

[[pool]]
name = "local"
path = "/mnt/pools/local"
capacity = "64GiB"
huge_pages = "always"

[remote.meadowlark]
ssh = "service@meadowlark.example.com"
address = "10.0.40.2"
transport = "rdma"
capacity = "128GiB"

[placement]
strategy = "fastest-fit"
[placement.pins]
"llama3.2-vision:90b" = "meadowlark"

[policy]
enabled = true
memory_reserve = "8GiB"

[http]
listen = "127.0.0.1:5050"

[control]
socket = "/run/speedloader/control.sock"
group = "speedloader"
"#;

#[test]
fn the_design_loads() {
    let config = loaded(DESIGN);
    assert_eq!(config.pools[0].capacity.to_string(), "64GiB");
    assert_eq!(config.pins["llama3.2-vision:90b"].as_str(), "meadowlark");
    for (key, origin) in &config.origins {
        println!("{key}: {origin}");
    }
}

#[test]
fn five_mistakes_are_five_faults() {
    let text = "models_dir = \"models\"\nmountpoin = \"/mnt\"\n[[pool]]\ncapacity = \"64\"\nhuge = 1\n[http]\nlisten = \"5050\"\n[placement.pins]\n\"a:1\" = \"locl\"\n[x\n";
    println!("{}", faults(text));
}
