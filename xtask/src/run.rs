//! Runs programs to their end. Ctrl-C and SIGTERM end the program that runs, and not xtask, which tidies up and then
//! reports that it was interrupted.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The process group of the program that is waited for.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// From now on Ctrl-C and SIGTERM end what [`run`] waits for instead of this process.
pub(crate) fn outlive_interrupts() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals can't be watched")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // Who asks a second time does not want to wait for an orderly end.
            let signal = if INTERRUPTED.swap(true, Ordering::SeqCst) { Signal::KILL } else { Signal::TERM };
            end_running(signal);
        }
    });
    Ok(())
}

/// Fails once the user has asked to stop.
pub(crate) fn check_interrupted() -> anyhow::Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Runs a command to its end; anything but success is an error. It reads no input.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    check_interrupted()?;
    // A group of its own, so that what it started in turn (a test, and that test's server) ends with it.
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("{:?} can't be started; is it installed?", command.get_program()))?;
    *running() = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if check_interrupted().is_err() {
        end_running(Signal::TERM); // the signal came before the group was known
    }
    let status = child.wait();
    *running() = None;
    check_interrupted()?;
    let status = status.with_context(|| format!("{:?} can't be waited for", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// Runs cargo in the workspace and shows what took how long.
pub(crate) fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    cargo_with(arguments, &[])
}

/// Like [`cargo`], with variables set in its environment.
pub(crate) fn cargo_with(arguments: &[&str], variables: &[(&str, &OsStr)]) -> anyhow::Result<()> {
    let started = Instant::now();
    eprintln!("$ cargo {}", arguments.join(" "));
    // The cargo that runs this program says which it is.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo).args(arguments).envs(variables.iter().copied()))?;
    eprintln!("  done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn running() -> std::sync::MutexGuard<'static, Option<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_running(signal: Signal) {
    if let Some(group) = *running()
        && let Err(error) = kill_process_group(group, signal)
    {
        eprintln!("process group {group} can't be ended: {error}");
    }
}
