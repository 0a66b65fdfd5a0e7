//! keyward under a clock that can be put forward, because some jobs wait for days.

use std::{
    io::BufRead,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use keyward::{
    config::Config,
    domain::job::Job,
    env::{ManualClock, SystemEntropy, Timestamp},
    server::{self, Instance, Sources},
};

use super::Outcome;

/// Serves this directory until the process is killed. Each line of standard input is a number of
/// seconds by which both clocks go forward. Jobs run only on request.
pub fn serve(dir: &Path) -> Outcome<()> {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    for job in [Job::ExpireKeys, Job::Purge, Job::Upkeep, Job::KeepTime] {
        config.jobs.insert(job, "0 0 0 29 2 MON".to_owned());
    }
    let now = Timestamp::from_millis(1_900_000_000_000);
    let clock = Arc::new(ManualClock::at(now));
    let hand = Arc::clone(&clock);
    thread::spawn(move || {
        let mut then = Instant::now();
        loop {
            thread::sleep(Duration::from_millis(1));
            hand.advance(then.elapsed());
            then = Instant::now();
        }
    });
    let hand = Arc::clone(&clock);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            hand.advance(Duration::from_secs(line.parse().unwrap_or_default()));
        }
    });
    let site = Instance::open(&config, Sources { clock, entropy: Arc::new(SystemEntropy) })?;
    let key_file = site.dir.layout().initial_root_key();
    site.first_start(|key| keyward::service::write_key_file(&key_file, key))?;
    actix_web::rt::System::new().block_on(async {
        let running = server::start(site, server::bind(&config)?, &config).await?;
        println!("{} ", running.urls.join(" "));
        running.halted().await;
        Err("the disk failed".into())
    })
}
