//! Real proxies with the packaged configuration, and an API behind them without authentication.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Process, Request, ReservedAddress, skip};

/// A proxy program in front of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Nginx,
    Caddy,
    HaProxy,
    Envoy,
    Traefik,
    Apache,
}

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    child: Process,
    log: PathBuf,
    _dir: tempfile::TempDir,
    _reserved: ReservedAddress,
}

/// The servers behind a proxy in a test.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    pub keyward: SocketAddr,
    pub api: SocketAddr,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Apache => "apache2",
        }
    }

    /// Returns the packaged files: the one for the policy, and the one with scopes for each route.
    pub fn files(self) -> [&'static str; 2] {
        match self {
            Self::Nginx => ["nginx/site-policy.conf", "nginx/site-scopes.conf"],
            Self::Caddy => ["caddy/Caddyfile.policy", "caddy/Caddyfile.scopes"],
            Self::HaProxy => ["haproxy/policy.cfg", "haproxy/scopes.cfg"],
            Self::Envoy => ["envoy/policy.yaml", "envoy/scopes.yaml"],
            Self::Traefik => ["traefik/policy.yaml", "traefik/scopes.yaml"],
            Self::Apache => ["apache/site-policy.conf", "apache/site-scopes.conf"],
        }
    }

    /// Returns whether the program is installed. Where all tests are required, it must be.
    pub fn is_there(self) -> bool {
        let mut look = Command::new("sh");
        look.args(["-c", "command -v \"$0\" >/dev/null", self.program()]).env("PATH", path());
        // Debian's module for Apache speaks Lua 5.3.
        let has_sockets = || Path::new("/usr/share/lua/5.3/socket.lua").exists();
        let found =
            look.status().is_ok_and(|it| it.success()) && (self != Self::Apache || has_sockets());
        if !found {
            skip(&format!("{self:?} is not installed"));
        }
        found
    }

    /// Starts it with this packaged file, in which only addresses and paths are replaced.
    pub fn start(self, file: &str, around: Surroundings) -> Proxy {
        self.start_edited(file, around, str::to_owned)
    }

    /// As [`Kind::start`], with all of its files edited first. Tests break the files in this way.
    pub fn start_edited(
        self,
        file: &str,
        around: Surroundings,
        edit: impl Fn(&str) -> String,
    ) -> Proxy {
        self.try_start(file, around, edit).unwrap_or_else(|| panic!("{self:?} does not start"))
    }

    /// As [`Kind::start_edited`]; `None` if the proxy refuses its files.
    pub fn try_start(
        self,
        file: &str,
        around: Surroundings,
        edit: impl Fn(&str) -> String,
    ) -> Option<Proxy> {
        let dir = tempfile::tempdir().expect("a directory");
        let reserved = ReservedAddress::new();
        let address = reserved.address;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        for part in self.files().iter().chain(self.other_files()) {
            let text = fs::read_to_string(shipped.join(part)).expect(part);
            let target = dir.path().join(part);
            fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
            fs::write(target, here(&edit(&text), dir.path(), address, around)).expect("a copy");
        }
        let log = dir.path().join("log");
        let sink = fs::File::create(&log).expect("a log");
        let mut command = self.command(file, dir.path(), address);
        command.current_dir(dir.path()).stdin(Stdio::null());
        command.stdout(sink.try_clone().expect("a log")).stderr(sink);
        command.env("HOME", dir.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        let child = Process::start(&mut command);
        let mut proxy = Proxy { address, child, log, _dir: dir, _reserved: reserved };
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.is_ready(address) {
            if proxy.child.try_wait().expect("its state").is_some() {
                eprintln!("{self:?} said: {}", proxy.said());
                return None;
            }
            assert!(Instant::now() < deadline, "{self:?}: {}", proxy.said());
            thread::sleep(Duration::from_millis(10));
        }
        Some(proxy)
    }

    fn other_files(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => {
                &["nginx/keyward.conf", "nginx/ask.inc", "nginx/question.inc", "nginx/protect.inc"]
            }
            Self::HaProxy => &["haproxy/keyward.lua"],
            Self::Apache => &["apache/keyward.lua", "apache/keyward.conf"],
            Self::Caddy | Self::Envoy | Self::Traefik => &[],
        }
    }

    /// Returns whether it serves the site. Traefik listens before it has read its file.
    fn is_ready(self, address: SocketAddr) -> bool {
        if self == Self::Traefik {
            let probe = Request::new("GET", "/").header("Host", "ready.test");
            return probe.try_send(address).is_some_and(|it| it.status != 404);
        }
        TcpStream::connect(address).is_ok()
    }

    fn command(self, file: &str, dir: &Path, listen: SocketAddr) -> Command {
        let mut command = Command::new(self.program());
        command.env("PATH", path());
        let path = dir.join(file);
        match self {
            Self::Nginx => {
                let main = dir.join("nginx.conf");
                let text = NGINX.replace("DIR", &dir.display().to_string()).replace("FILE", file);
                fs::write(&main, text).expect("the main file");
                command.args(["-p"]).arg(dir).arg("-e").arg("stderr").arg("-c").arg(main);
            }
            Self::Caddy => {
                let text = fs::read_to_string(&path).expect("the copy");
                // Two instances on one machine would share the socket of their administration.
                fs::write(&path, format!("{{\n\tadmin off\n\tauto_https off\n}}\n{text}"))
                    .expect("the copy");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path);
            }
            Self::HaProxy => {
                command.args(["-db", "-f"]).arg(path);
            }
            Self::Envoy => {
                command.args([
                    "--use-dynamic-base-id",
                    "--concurrency",
                    "1",
                    "-l",
                    "warning",
                    "-c",
                ]);
                command.arg(path);
            }
            Self::Traefik => {
                let ready = dir.join("traefik/dynamic");
                fs::create_dir(&ready).expect("a directory");
                fs::rename(path, ready.join("site.yaml")).expect("the copy");
                fs::write(ready.join("ready.yaml"), TRAEFIK).expect("a file");
                command.arg(format!("--entryPoints.web.address={listen}"));
                command.arg(format!("--providers.file.directory={}", ready.display()));
                command.args(["--providers.file.watch=false", "--log.level=WARN"]);
                command
                    .args(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]);
            }
            Self::Apache => {
                let main = dir.join("apache2.conf");
                let text = APACHE.replace("DIR", &dir.display().to_string());
                let text = text.replace("FILE", file).replace("LISTEN", &listen.to_string());
                fs::write(&main, text).expect("the main file");
                // A single process, so that none is left when it is ended.
                command.arg("-X").arg("-d").arg(dir).arg("-f").arg(main);
            }
        }
        command
    }
}

/// Debian installs servers in a directory that only root has in `PATH`.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin"
}

/// The main configuration, which a real machine has around a site.
const NGINX: &str = include_str!("../fixtures/proxies/nginx.conf");

/// A route that exists as soon as the file beside it is loaded.
const TRAEFIK: &str = include_str!("../fixtures/proxies/traefik.yaml");

/// The main configuration of a Debian machine, with the modules that the packaged files need.
const APACHE: &str = include_str!("../fixtures/proxies/apache2.conf");

/// Returns the text of a packaged file with the addresses and paths of this test.
fn here(text: &str, dir: &Path, listen: SocketAddr, around: Surroundings) -> String {
    let (keyward, api) = (around.keyward.port(), around.api.port());
    let port = listen.port();
    text.replace("127.0.0.1:8080", &around.keyward.to_string())
        .replace("127.0.0.1:3000", &around.api.to_string())
        .replace("port_value: 8080", &format!("port_value: {keyward}"))
        .replace("port_value: 3000", &format!("port_value: {api}"))
        .replace("0.0.0.0, port_value: 80 ", &format!("127.0.0.1, port_value: {port} "))
        .replace("listen 80;", &format!("listen {listen};"))
        .replace("http://api.example.com:80}", &format!("http://api.example.com:{port}}}"))
        .replace("bind :80\n", &format!("bind {listen}\n"))
        .replace("<VirtualHost *:80>", &format!("<VirtualHost {listen}>"))
        .replace("/usr/share/keyward", &dir.display().to_string())
}

impl Proxy {
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the proxy said: {}", self.said());
        }
    }
}
