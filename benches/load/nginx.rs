//! nginx in front of an API, with and without the files in `packaging/nginx`.

use std::{
    fmt::Write,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
};

use super::{Outcome, process::Process, site::Key};

/// How nginx decides whether a request passes.
#[derive(Clone, Copy)]
pub enum Guard<'a> {
    /// Every request passes.
    None,
    /// By a table of keys in its own configuration.
    Map(&'a [Key]),
    /// By asking this server, with the packaged files.
    Ask(SocketAddr),
}

/// Returns whether nginx is installed. On Debian, `/usr/sbin` may be missing in `PATH`.
pub fn is_there() -> bool {
    command().arg("-v").output().is_ok_and(|it| it.status.success())
}

fn command() -> Command {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let mut command = Command::new("nginx");
    command.env("PATH", path);
    command
}

/// Starts one nginx, which is both the proxy and the API behind it. The API answers with the key id
/// that it gets.
pub fn start(dir: &Path, guard: Guard<'_>) -> Outcome<Process> {
    std::fs::create_dir_all(dir)?;
    let (address, api) = (free_address()?, free_address()?);
    let mut text = String::from(
        "daemon off; master_process off; worker_rlimit_nofile 4096;
         pid nginx.pid; error_log stderr crit; events { worker_connections 1024; }
         http { access_log off; keepalive_requests 100000000;
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
         scgi_temp_path s; map_hash_max_size 65536; map_hash_bucket_size 128;\n",
    );
    let passed = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://api;";
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    match guard {
        Guard::Ask(keyward) => {
            let here = |it: &str| {
                it.replace("127.0.0.1:8080", &keyward.to_string())
                    .replace("127.0.0.1:3000", &api.to_string())
                    .replace("/usr/share/keyward", &dir.display().to_string())
                    .replace("listen 80;", &format!("listen {address};"))
            };
            std::fs::create_dir_all(dir.join("nginx"))?;
            for file in ["ask.inc", "question.inc", "protect.inc"] {
                let part = std::fs::read_to_string(shipped.join("nginx").join(file))?;
                std::fs::write(dir.join("nginx").join(file), here(&part))?;
            }
            for file in ["keyward.conf", "site-scopes.conf"] {
                text += &here(&std::fs::read_to_string(shipped.join("nginx").join(file))?);
            }
        }
        Guard::Map(keys) => {
            writeln!(text, "upstream api {{ server {api}; keepalive 32; }}")?;
            writeln!(text, "map $http_x_api_key $known {{ default \"\";")?;
            for key in keys {
                writeln!(text, "{} {};", key.text, key.id)?;
            }
            writeln!(text, "}} server {{ listen {address}; location / {{")?;
            writeln!(text, "if ($known = \"\") {{ return 401; }}")?;
            writeln!(text, "proxy_set_header X-Keyward-Key-Id $known; {passed} }} }}")?;
        }
        Guard::None => {
            writeln!(text, "upstream api {{ server {api}; keepalive 32; }}")?;
            writeln!(text, "server {{ listen {address}; location / {{ {passed} }} }}")?;
        }
    }
    writeln!(text, "server {{ listen {api}; return 200 \"$http_x_keyward_key_id;\"; }} }}")?;
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text)?;
    let mut command = command();
    command.arg("-p").arg(dir).args(["-e", "stderr", "-c"]).arg(file);
    Process::silent(command, address)
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
