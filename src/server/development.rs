//! Development mode: an application with sample keys and a clock that requests can move.

use std::sync::Arc;

use super::{DataDir, Error, Instance, Listener, Purpose, Sources};
use crate::{
    config::Config,
    env::{Clock, SettableClock, SystemClock, SystemEntropy, Timestamp},
    http::{development::Development, request::own_address::local_url},
    service::Keyward,
};

/// Opens an empty data directory for development mode. The clock shows `now`, or the time of this
/// machine. Without `public_url`, the first listener is the issuer of tokens. Their keys are made for this
/// run.
pub fn open_for_development(
    config: &Config,
    listeners: &[Listener],
    now: Option<Timestamp>,
) -> Result<Instance, Error> {
    let issuer = listeners.first().map(|it| local_url(&it.url(false)));
    let config = &Config { public_url: config.public_url.clone().or(issuer), ..config.clone() };
    let wanted = || now.unwrap_or_else(|| SystemClock::new().wall());
    let start = wanted();
    // The samples have a past, so they are made before the start.
    let clock = Arc::new(SettableClock::at(start.before(Keyward::SAMPLE_AGE)));
    let sources =
        Sources { clock: Arc::<SettableClock>::clone(&clock), entropy: Arc::new(SystemEntropy) };
    let dir = DataDir::take(&config.data_dir)?;
    let mut instance = Instance::open_in(dir, config, sources, Purpose::Development)?;
    let samples = instance.app.make_samples(start)?;
    // The clock cannot be past this time, unless the samples took a day.
    let _ = clock.advance_to(wanted());
    instance.app.use_up_sample()?;
    instance.development = Some(Arc::new(Development { clock, samples }));
    Ok(instance)
}
