//! Real proxies, with the configuration that ships, and an API behind them that knows nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::{Process, skip};

/// A program that stands in front of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Nginx,
    Caddy,
    HaProxy,
    Envoy,
}

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    child: Process,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

/// What a proxy in a test talks to.
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
        }
    }

    /// The files that ship: that of the policy, and that with a scope for each route.
    pub fn files(self) -> [&'static str; 2] {
        match self {
            Self::Nginx => ["nginx/site-policy.conf", "nginx/site-scopes.conf"],
            Self::Caddy => ["caddy/Caddyfile.policy", "caddy/Caddyfile.scopes"],
            Self::HaProxy => ["haproxy/policy.cfg", "haproxy/scopes.cfg"],
            Self::Envoy => ["envoy/policy.yaml", "envoy/scopes.yaml"],
        }
    }

    /// Whether the program is on this machine. Where everything is to be tried, it must be.
    pub fn is_there(self) -> bool {
        let mut look = Command::new("sh");
        look.args(["-c", "command -v \"$0\" >/dev/null", self.program()]).env("PATH", path());
        let found = look.status().is_ok_and(|it| it.success());
        if !found {
            skip(&format!("{self:?} is not installed"));
        }
        found
    }

    /// Starts it with this file of the package, in which only addresses and paths are replaced.
    pub fn start(self, file: &str, around: Surroundings) -> Proxy {
        let dir = tempfile::tempdir().expect("a directory");
        let address = free_address();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        for part in self.files().iter().chain(self.other_files()) {
            let text = fs::read_to_string(shipped.join(part)).expect(part);
            let target = dir.path().join(part);
            fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
            fs::write(target, here(&text, dir.path(), address, around)).expect("a copy");
        }
        let log = dir.path().join("log");
        let sink = || Stdio::from(fs::File::create(&log).expect("a log"));
        let mut command = self.command(file, dir.path());
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(sink());
        command.env("HOME", dir.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        let child = Process::start(&mut command);
        let mut proxy = Proxy { address, child, log, _dir: dir };
        let deadline = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(address).is_err() {
            let ended = proxy.child.try_wait().expect("its state");
            assert!(ended.is_none() && Instant::now() < deadline, "{self:?}: {}", proxy.said());
            thread::sleep(Duration::from_millis(10));
        }
        proxy
    }

    fn other_files(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => {
                &["nginx/keyward.conf", "nginx/ask.inc", "nginx/question.inc", "nginx/protect.inc"]
            }
            Self::HaProxy => &["haproxy/keyward.lua"],
            Self::Caddy | Self::Envoy => &[],
        }
    }

    fn command(self, file: &str, dir: &Path) -> Command {
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
                // Two on one machine would share the socket of their administration.
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
        }
        command
    }
}

/// Debian keeps servers where only root looks.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin"
}

/// What stands around a site on a real machine.
const NGINX: &str = "
daemon off;
master_process off;
pid DIR/pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path DIR/body;
    proxy_temp_path DIR/proxy;
    fastcgi_temp_path DIR/fastcgi;
    uwsgi_temp_path DIR/uwsgi;
    scgi_temp_path DIR/scgi;
    include DIR/nginx/keyward.conf;
    include DIR/FILE;
}
";

/// The text of a shipped file as this machine needs it.
fn here(text: &str, dir: &Path, listen: SocketAddr, around: Surroundings) -> String {
    let (keyward, api) = (around.keyward.port(), around.api.port());
    let port = listen.port();
    text.replace("127.0.0.1:8080", &around.keyward.to_string())
        .replace("127.0.0.1:3000", &around.api.to_string())
        .replace("port_value: 8080", &format!("port_value: {keyward}"))
        .replace("port_value: 3000", &format!("port_value: {api}"))
        .replace("0.0.0.0, port_value: 80 ", &format!("127.0.0.1, port_value: {port} "))
        .replace("listen 80;", &format!("listen {listen};"))
        .replace("http://api.example.com:80 ", &format!("http://api.example.com:{port} "))
        .replace("bind :80\n", &format!("bind {listen}\n"))
        .replace("/usr/share/keyward", &dir.display().to_string())
}

/// An address that nobody listens on. Somebody else may take it before it is used; then the test
/// says so.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
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

/// An HTTP server that gives each request the same answer and remembers what it was asked.
pub struct Stub {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// `answer` is the head of the answer, without what says where the body ends.
    pub fn serve(address: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&seen);
        // Ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heads = Arc::clone(&heads);
                thread::spawn(move || exchange(&stream, answer, &heads));
            }
        });
        Self { address, seen }
    }

    /// The heads of the requests since it was last asked, in lower case.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("nobody panicked"))
    }
}

fn exchange(stream: &TcpStream, answer: &str, heads: &Mutex<Vec<String>>) {
    let (mut head, mut reader, mut writer) = (String::new(), BufReader::new(stream), stream);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return; // A connection that was only tried.
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_ok() {
        heads.lock().expect("nobody panicked").push(head);
        let _ = write!(writer, "{answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
}
