//! The load benchmark: the release binary and its baselines, on loopback, in turns.
//!
//! `cargo bench --bench load` prints the tables of `docs/performance.md` in a few minutes. `--
//! --full` adds a million keys and a flood of wrong keys. Words choose tables (`-- verify growth`).
//! `-- --list` prints the names of the tables and measures nothing.
//! No test uses a figure as a limit, because machines differ. The ratios to the baselines of the
//! same run differ much less.

#![expect(clippy::print_stdout, reason = "its output is its result")]
#![expect(clippy::disallowed_methods, reason = "it measures from outside, by the real clock")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded for reading anyway"
)]

mod aged;
mod baseline;
mod cases;
mod client;
mod nginx;
mod process;
mod report;
mod site;

use std::{error::Error, path::Path, process::ExitCode};

use self::cases::{Bench, CASES};

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("baseline") => match arguments.get(1..) {
            Some([name, argument]) if name == "aged" => aged::serve(argument.as_ref()),
            Some([name, argument]) => baseline::serve(name, argument.into()),
            Some(_) | None => Err("which baseline?".into()),
        },
        Some(_) | None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("\nfailed: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<()> {
    let has = |flag: &str| arguments.iter().any(|it| it == flag);
    let (flags, chosen): (Vec<_>, Vec<_>) = arguments.iter().partition(|it| it.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|it| !["--full", "--list"].contains(&it.as_str())) {
        return Err(format!("no option {unknown}; there are --full and --list").into());
    }
    if let Some(unknown) = chosen.iter().find(|it| !CASES.iter().any(|(name, _)| name == **it)) {
        let names: Vec<_> = CASES.iter().map(|(name, _)| *name).collect();
        return Err(format!("no table {unknown:?}; there are {}", names.join(", ")).into());
    }
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|it| *it == name);
    if has("--list") {
        CASES.iter().filter(|(name, _)| is_chosen(name)).for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let command = ["cargo bench --bench load --"].into_iter();
    let command: Vec<_> = command.chain(arguments.iter().map(String::as_str)).collect();
    println!("`{}`, {}", command.join(" ").trim_end_matches(" --"), machine()?);
    let dir = tempfile::Builder::new().prefix("keyward-bench-").tempdir()?;
    let mut bench = Bench::new(dir.path(), has("--full"));
    for (_, case) in CASES.iter().filter(|(name, _)| is_chosen(name)) {
        case(&mut bench)?;
    }
    Ok(())
}

fn machine() -> Outcome<String> {
    let text = |path: &Path| std::fs::read_to_string(path);
    let cpu = text("/proc/cpuinfo".as_ref())?;
    let model = cpu.lines().find_map(|it| it.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let processors = std::thread::available_parallelism()?;
    let kernel = text("/proc/sys/kernel/osrelease".as_ref())?;
    let load = text("/proc/loadavg".as_ref())?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("{processors} × {model}, Linux {}, load {load} before", kernel.trim()))
}
