//! A program that is missing, is another one, hangs, floods, dies, or is no longer wanted.

use std::path::Path;
use std::time::{Duration, Instant};

use postrider_speech::{Espeak, Format, Order, SpeechError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, test_kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{OpenOptions, Receiver};

use crate::fake::{Fake, HEADER};
use crate::wav::Wav;
use crate::{english, spoken};

#[tokio::test]
async fn a_missing_program_is_answered_with_what_to_install() {
    let found_nowhere = [
        ("espeak-of-nowhere", "in PATH"),
        ("./espeak-ng", "that can be run"),
        ("/nowhere/x", "that can be run"),
        ("/etc/passwd", "that can be run"),
    ];
    for (program, place) in found_nowhere {
        let error = Espeak::find(Some(Path::new(program))).await.unwrap_err();
        assert!(matches!(error, SpeechError::Missing { .. }), "{error}");
        let words = error.to_string();
        assert!(words.starts_with(&format!("there is no program {program} {place}; install espeak-ng (Debian")), "{words}");
        assert!(words.contains("`apt-get install espeak-ng`"), "{words}");
    }
}

#[tokio::test]
async fn another_program_is_not_taken_for_it() {
    for program in ["/bin/true", "/bin/echo"] {
        let error = Espeak::find(Some(Path::new(program))).await.unwrap_err();
        assert!(matches!(error, SpeechError::NotEspeak { .. }), "{error}");
    }
    let error = Espeak::find(Some(Path::new("/bin/false"))).await.unwrap_err();
    assert_eq!(error.to_string(), "espeak-ng failed (exit status: 1)");
}

#[tokio::test]
async fn what_it_says_becomes_the_file() {
    let wav = Wav::read(&Fake::new(&format!(r"cat >/dev/null; printf '{HEADER}\001\002\003\004'")).speak().await.unwrap());
    assert_eq!((wav.rate, wav.samples), (22_050, vec![0x201, 0x403]));
}

#[tokio::test]
async fn a_program_that_dies_is_quoted() {
    let error = Fake::new("echo 'no such voice' >&2; exit 2").speak().await.unwrap_err();
    assert_eq!(error.to_string(), "espeak-ng failed (exit status: 2): no such voice");
    let error = Fake::new("cat >/dev/null; kill -SEGV $$").speak().await.unwrap_err();
    assert!(error.to_string().starts_with("espeak-ng failed (signal: 11 (SIGSEGV)"), "{error}");
}

#[tokio::test]
async fn little_is_kept_of_long_complaints() {
    let error = Fake::new("cat >/dev/null; yes oh | head -c 1000000 >&2; exit 1").speak().await.unwrap_err();
    assert!(matches!(&error, SpeechError::Failed { complaint, .. } if complaint.len() <= 2048), "{error}");
}

#[tokio::test]
async fn a_program_that_floods_is_ended() {
    let error = Fake::new(&format!("printf '{HEADER}'; cat /dev/zero")).speak().await.unwrap_err();
    assert_eq!(error.to_string(), "one part of the text gave more than 64 MiB of audio");
}

#[tokio::test]
async fn what_is_not_audio_is_refused() {
    for body in ["echo hello", "head -c 100 /dev/zero", &format!(r"printf '{HEADER}\001'")] {
        let error = Fake::new(&format!("cat >/dev/null; {body}")).speak().await.unwrap_err();
        assert!(matches!(error, SpeechError::NotAudio), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_from_a_failing_program() {
    let fake = Fake::new(&format!("cat >/dev/null; printf '{HEADER}'; head -c 10000000 /dev/urandom"));
    let espeak = Espeak::find(Some(&fake.program())).await.unwrap();
    for format in [Format::Wav, Format::Ogg] {
        let request = espeak.request(Order { format, ..english("Hello.") }).unwrap();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = espeak.speak(&request, full, |_| ()).await.unwrap_err();
        assert!(matches!(error, SpeechError::Write(_)) && error.to_string().contains("No space left"), "{format:?}: {error}");
    }
}

#[tokio::test]
async fn it_has_limits_and_an_environment_of_its_own_before_it_gets_the_text() {
    let body = "cat >/dev/null; { env; pwd; for limit in v t n c f; do ulimit -$limit; done; } >&2; exit 1";
    let Err(SpeechError::Failed { complaint, .. }) = Fake::new(body).speak().await else { panic!("it fails") };
    let names: Vec<&str> = complaint.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let shells_own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let known =
        |name: &str| name.starts_with("PULSE_") || ["LANG", "HOME", "ESPEAK_DATA_PATH"].contains(&name) || shells_own.contains(&name);
    assert!(names.iter().all(|name| known(name)), "{names:?}");
    assert!(complaint.contains("LANG=C.UTF-8"), "{complaint}");
    // KiB, seconds, files, and bytes in blocks of 512 or 1024.
    assert!(complaint.contains("\n/\n524288\n30\n32\n0\n"), "{complaint}");
    let blocks = complaint.lines().next_back().and_then(|line| line.parse().ok());
    assert!(matches!(blocks, Some(65_536 | 131_072)), "{complaint}");
}

/// A named pipe that a program writes its number to and then holds open for as long as it lives.
fn lifeline(fake: &Fake) -> Receiver {
    let path = fake.file("lifeline");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    OpenOptions::new().open_receiver(&path).unwrap()
}

/// Says its number on the lifeline, has a child that holds it too, and hangs.
const HANGS: &str = r#"exec 3>"${0%/*}/lifeline"; sleep 1000 & echo $$ >&3; wait"#;

async fn number(lifeline: &mut Receiver) -> Pid {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        // Until the program opens it, the pipe is at its end.
        match lifeline.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    Pid::from_raw(String::from_utf8(line).unwrap().trim().parse().unwrap()).unwrap()
}

/// Waits until the process and its children have ended, and nothing is left of it to be reaped.
async fn gone(mut lifeline: Receiver, process: Pid) {
    assert_eq!(lifeline.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    let start = Instant::now();
    while test_kill_process(process).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "{process:?} is not reaped");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn may_be_spawned(_: &(impl Future + Send)) {}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_its_children() {
    let fake = Fake::new(HANGS);
    let mut lifeline = lifeline(&fake);
    let (espeak, request) = fake.found().await;
    let mut speech = Box::pin(spoken(&espeak, &request));
    may_be_spawned(&speech);
    let process = tokio::select! {
        process = number(&mut lifeline) => process,
        ended = &mut speech => panic!("it hangs: {ended:?}"),
    };
    tokio::time::pause();
    let error = speech.await.unwrap_err();
    tokio::time::resume();
    assert_eq!(error.to_string(), "espeak-ng took longer than 60 seconds for one part of the text and was ended");
    gone(lifeline, process).await;
}

#[tokio::test]
async fn a_speech_that_is_dropped_ends_the_program_with_its_children() {
    let fake = Fake::new(HANGS);
    let mut lifeline = lifeline(&fake);
    let (espeak, request) = fake.found().await;
    let process = tokio::select! {
        process = number(&mut lifeline) => process,
        ended = spoken(&espeak, &request) => panic!("it hangs: {ended:?}"),
    };
    gone(lifeline, process).await;
}
