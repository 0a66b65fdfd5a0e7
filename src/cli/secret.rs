//! Secrets in the input and output of commands.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::fs::{fstat, major, minor};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::error::Error;

/// The null device (null(4)). The standard library also uses it for a closed standard output.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// Longer than any key.
const LONGEST: u64 = 4096;

/// Reads a key from standard input, without the white space around it. On a terminal, `prompt` asks
/// for it on standard error, one line ends it, and it is not shown.
pub(super) fn read(prompt: &str) -> Result<Zeroizing<String>, Error> {
    let unreadable = |source| Error::File { path: "standard input".into(), source };
    let mut key = Zeroizing::new(Vec::new());
    let input = io::stdin();
    let mut limited = input.lock().take(LONGEST);
    if input.is_terminal() {
        let _silence = Silence::begin().map_err(unreadable)?;
        write!(io::stderr(), "{prompt}: ")?;
        limited.read_until(b'\n', &mut key).map_err(unreadable)?;
    } else {
        limited.read_to_end(&mut key).map_err(unreadable)?;
    }
    // Text that is not UTF-8 is not a key. The server reports that.
    let key = Zeroizing::new(String::from_utf8_lossy(&key).into_owned());
    Ok(Zeroizing::new(key.trim().to_owned()))
}

/// Refuses to create a key that would be lost because standard output is discarded.
pub(super) fn check_output() -> Result<(), Error> {
    let device = fstat(io::stdout()).map(|it| (major(it.st_rdev), minor(it.st_rdev)));
    if device == Ok(NULL_DEVICE) { Err(Error::OutputNowhere) } else { Ok(()) }
}

/// Names the key in the error of a command that created or rotated it (`done`) and could not print it.
pub(super) fn printed(
    outcome: Result<(), Error>,
    key: &str,
    done: &'static str,
) -> Result<(), Error> {
    outcome.map_err(|err| {
        let Error::Output(source) = err else { return err };
        Error::Undelivered { key: key.to_owned(), done, source }
    })
}

/// Keeps the terminal from showing what is typed (termios(3), `ECHO`). If a signal ends the process,
/// the shell restores its terminal.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Self, io::Error> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is no other way to restore the terminal.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
