//! The built binary with its output in files, for tests that read the output.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use super::{Binary, Process, keyward};

/// A running `keyward serve` whose output goes to files.
pub struct Logged {
    pub binary: Binary,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

impl Logged {
    /// Starts it on a free port; its output goes beside the data directory.
    pub fn serve(data_dir: &Path, arguments: &[&str]) -> Self {
        let (stdout, stderr) = (data_dir.with_extension("out"), data_dir.with_extension("err"));
        let mut command = keyward();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
        let to = |path: &Path| Stdio::from(File::create(path).expect("a file"));
        command.args(arguments).stdout(to(&stdout)).stderr(to(&stderr));
        let mut child = Process::start(&mut command);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let said = fs::read_to_string(&stdout).expect("its output");
            let address = said.split("http://").nth(1).and_then(|it| it.split_once(' '));
            if let Some((address, _)) = address {
                let address = address.parse().expect("an address");
                let binary = Binary { child, address, data_dir: data_dir.to_owned() };
                return Self { binary, stdout, stderr };
            }
            let ended = child.try_wait().expect("its state");
            let complaint = || fs::read_to_string(&stderr).unwrap_or_default();
            assert!(ended.is_none(), "it ended: {ended:?} {}", complaint());
            assert!(Instant::now() < deadline, "it does not start: {}", complaint());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns its output so far.
    pub fn said(&self) -> String {
        let read = |path: &Path| fs::read(path).expect("its output");
        let said = [read(&self.stdout), read(&self.stderr)].concat();
        String::from_utf8_lossy(&said).into_owned()
    }
}
