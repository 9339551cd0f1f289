//! `speedloader setup`: finds models, proposes a configuration, and writes it when told to. With a person
//! at a terminal it asks; the page's guide asks the same.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::Args;
use speedloader_config::{Bytes, Capacity, Sources};

use super::context::Context;
use super::mount;
use super::settings::{account, found_config, missing_config};
use crate::command::{Code, Message};
use crate::setup::{Desk, Surroundings, Target};
use crate::view::human::size;
use crate::view::{SetupChoices, SetupState, SetupView, StoreView, View};

/// Find models on this machine and write a first configuration
#[derive(Args, Debug)]
#[command(after_help = "\
Looks for the stores of Ollama, Hugging Face, LM Studio and llama.cpp, at memory and file systems.
Nothing is written before you say so. At a terminal it asks; else it only shows the proposal.

Examples:
  speedloader setup
  speedloader setup --dry-run --directory /mnt/nas/models
  speedloader setup --pool 64GiB --yes && speedloader mount")]
pub(super) struct Arguments {
    /// Write the proposal without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,

    /// Only show what was found and what would be written
    #[arg(long)]
    dry_run: bool,

    /// A directory of models to look at as well; may be repeated
    #[arg(long, value_name = "DIR")]
    directory: Vec<PathBuf>,

    /// How much memory models may take: a size, or a share of it [default: what programs leave]
    #[arg(long, value_name = "SIZE")]
    pool: Option<String>,

    /// Where engines will write models
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,

    /// Where the models will be seen
    #[arg(long, value_name = "DIR")]
    mountpoint: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context<'_>) -> Result<(), Message> {
    let explicit = context.global.config.as_deref();
    let path = missing_config(context.console, explicit)
        .ok_or_else(|| there_already(found_config(context.console, explicit)))?;
    let sources = Sources {
        file: None,
        environment: context.console.environment.clone(),
        options: Vec::new(),
        account: account(context.console),
    };
    let around = Surroundings::new(sources.environment.clone(), sources.account.clone());
    let target = Target {
        path: std::path::absolute(&path).unwrap_or(path),
        sources,
        is_ours: false,
        failed: None,
    };
    let desk = Desk::new(around, target);
    let directories: Vec<PathBuf> = arguments.directory.iter().map(|path| whole(path)).collect();
    let mut view = desk.look(&directories);
    let mut choices = view.choices.clone();
    arguments.apply(&mut choices, view.memory_bytes)?;
    view = desk.check(choices);
    if arguments.yes {
        return write(&desk, view, context);
    }
    // Taken out, so that it can be asked while the rest of the console is written to.
    let answers = context.console.answers.take();
    match answers.filter(|_| !arguments.dry_run && !context.global.json) {
        Some(mut answers) => ask(&desk, view, answers.as_mut(), context),
        None => {
            let is_faulty = !view.faults.is_empty();
            context.show(&View::Setup(Box::new(view)))?;
            match is_faulty {
                // The faults are among what was shown.
                true => Err(Message::new(Code::BadConfig, "")),
                false => Ok(()),
            }
        }
    }
}

fn there_already(found: Option<PathBuf>) -> Message {
    let which = found.map_or("there is a configuration already".to_owned(), |path| {
        format!("{} is there already", path.display())
    });
    Message::new(Code::Busy, which).with_hint(
        "`speedloader config show --origin` shows it, `speedloader config set` changes it",
    )
}

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Arguments {
    fn apply(&self, choices: &mut SetupChoices, memory_bytes: u64) -> Result<(), Message> {
        let text = |path: &Path| whole(path).to_string_lossy().into_owned();
        if let Some(models) = &self.models {
            choices.models_dir = text(models);
            choices.cold.retain(|cold| *cold != choices.models_dir);
        }
        if let Some(mountpoint) = &self.mountpoint {
            choices.mountpoint = text(mountpoint);
        }
        if let Some(pool) = &self.pool {
            choices.pool_bytes = pool_of(pool, memory_bytes)
                .map_err(|wanted| Message::new(Code::Usage, format!("--pool: wanted {wanted}")))?;
        }
        Ok(())
    }
}

fn pool_of(text: &str, memory_bytes: u64) -> Result<u64, &'static str> {
    Capacity::parse(text.trim()).map(|capacity| capacity.resolve(Bytes(memory_bytes)).0)
}

fn write(desk: &Desk, view: SetupView, context: &mut Context<'_>) -> Result<(), Message> {
    let written = desk.apply(view.choices)?;
    if written.state != SetupState::Written {
        context.show(&View::Setup(Box::new(written.clone())))?;
        let faults: Vec<String> = written.faults.into_iter().map(|fault| fault.text).collect();
        return Err(Message::new(Code::BadConfig, faults.join("\n")));
    }
    if context.global.json {
        return context.show(&View::Setup(Box::new(written)));
    }
    let uses: String = written
        .uses
        .iter()
        .map(|one| format!("  {:<20} {}\n", one.engine, one.line))
        .collect();
    let notes: String = written
        .remarks
        .iter()
        .map(|remark| format!("note: {remark}\n"))
        .collect();
    let text = format!(
        "{notes}{} is written. Mount with `speedloader mount`, then point your engine at it:\n{uses}",
        written.config_path
    );
    context.print(&text)
}

/// Goes through the proposal with a person.
fn ask(
    desk: &Desk,
    mut view: SetupView,
    answers: &mut dyn BufRead,
    context: &mut Context<'_>,
) -> Result<(), Message> {
    let mut shown = view.clone();
    // What is being asked about is not shown as decided.
    shown.toml.clear();
    shown.faults.clear();
    shown.remarks.clear();
    context.show(&View::Setup(Box::new(shown)))?;
    let mut choices = view.choices.clone();
    let mut person = Person { answers, context };
    for store in view
        .stores
        .iter()
        .filter(|store| choices.cold.contains(&store.path))
    {
        let question = format!("Serve {} ({}), read only?", store.path, inside(store));
        if !person.agrees(&question, true)? {
            let path = store.path.clone();
            view.choices.cold.retain(|cold| *cold != path);
        }
    }
    choices.cold = view.choices.cold;
    loop {
        let proposed = Bytes(choices.pool_bytes).to_string();
        let answer = person.answer("Memory for models", &proposed)?;
        match pool_of(&answer, view.memory_bytes) {
            Ok(bytes) => break choices.pool_bytes = bytes,
            Err(wanted) => person.say(&format!("wanted {wanted}\n"))?,
        }
    }
    choices.mountpoint = person.answer("Where the models are seen", &choices.mountpoint)?;
    choices.models_dir = person.answer("Where engines write new models", &choices.models_dir)?;
    let judged = desk.check(choices);
    person.say(&format!("\n{}\n{}\n", judged.config_path, judged.toml))?;
    for remark in &judged.remarks {
        person.say(&format!("note: {remark}\n"))?;
    }
    if let Some(fault) = judged.faults.first() {
        return Err(Message::new(Code::BadConfig, fault.text.clone()));
    }
    if !person.agrees(&format!("Write {}?", judged.config_path), false)? {
        return person.say("Nothing was written.\n");
    }
    write(desk, judged, person.context)?;
    if person.agrees("Mount it now?", true)? {
        return mount::run(mount::Arguments::default(), person.context);
    }
    Ok(())
}

fn inside(store: &StoreView) -> String {
    let models = if store.models == 1 {
        "1 model".to_owned()
    } else {
        format!("{} models", store.models)
    };
    format!("{models}, {}", size(store.bytes))
}

struct Person<'p, 'c> {
    answers: &'p mut dyn BufRead,
    context: &'p mut Context<'c>,
}

impl Person<'_, '_> {
    fn say(&mut self, text: &str) -> Result<(), Message> {
        self.context.print(text)
    }

    /// What is answered; nothing is `proposed`.
    fn answer(&mut self, question: &str, proposed: &str) -> Result<String, Message> {
        self.say(&format!("{question} [{proposed}]: "))?;
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        // Nobody there is no agreement.
        if !matches!(read, Ok(1..)) {
            return Err(Message::new(
                Code::Cancelled,
                "nothing was written: nobody answers",
            ));
        }
        let answer = line.trim();
        Ok(if answer.is_empty() { proposed } else { answer }.to_owned())
    }

    fn agrees(&mut self, question: &str, proposed: bool) -> Result<bool, Message> {
        let word = if proposed { "Y/n" } else { "y/N" };
        let answer = self.answer(question, word)?;
        Ok(match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            _ => proposed,
        })
    }
}
