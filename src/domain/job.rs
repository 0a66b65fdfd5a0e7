//! The scheduled tasks, as one table.

/// Declares [`Job`]. Each row: the job, its name, its default schedule, whether it runs at the start.
macro_rules! jobs {
    ($($job:ident, $name:literal, $schedule:literal, $at_start:literal;)*) => {
        /// A scheduled task. A configuration, a command and a metric name it by its name.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Job {
            $($job,)*
        }

        impl Job {
            /// In the order in which they run at the start.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$job),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$job => $name,)*
                }
            }

            /// A cron line of six fields, seconds first, in UTC.
            pub fn default_schedule(self) -> &'static str {
                match self {
                    $(Self::$job => $schedule,)*
                }
            }

            /// Whether it also runs once at each start.
            pub fn runs_at_start(self) -> bool {
                match self {
                    $(Self::$job => $at_start,)*
                }
            }
        }
    };
}

jobs! {
    EndGraces, "end_graces", "*/5 * * * * *", true;
    ExpireKeys, "expire_keys", "*/10 * * * * *", true;
    Notices, "notices", "0 0 * * * *", true;
    Purge, "purge", "0 */10 * * * *", true;
    FlushUsage, "flush_usage", "*/5 * * * * *", true;
    KeepTime, "keep_time", "0 * * * * *", true;
    RecordDenials, "record_denials", "*/30 * * * * *", true;
    Tokens, "tokens", "0 * * * * *", true;
    Checkpoint, "checkpoint", "30 * * * * *", true;
    // A server that is started again and again would fill the disk with backups.
    Backup, "backup", "0 30 2 * * *", false;
    Upkeep, "upkeep", "0 17 3 * * *", true;
}

impl Job {
    /// Returns the job with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_its_name() {
        for job in Job::ALL {
            assert!(Job::parse(job.as_str()) == Some(job), "{}", job.as_str());
        }
        assert!(Job::parse("").is_none() && Job::parse("Purge").is_none());
    }
}
