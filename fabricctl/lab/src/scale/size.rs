//! Sizes of a measurement.

/// Sizes. The goals apply to the defaults.
#[derive(Debug, Clone, clap::Args)]
pub struct Size {
    /// Tenant networks
    #[arg(long, default_value_t = 1_000_000)]
    pub networks: usize,
    /// vDCs that they are in
    #[arg(long, default_value_t = 10_000)]
    pub vdcs: usize,
    /// Attachments, two in a network
    #[arg(long, default_value_t = 100_000)]
    pub attachments: usize,
    /// Hosts
    #[arg(long, default_value_t = 1_000)]
    pub hosts: usize,
    /// Leaves
    #[arg(long, default_value_t = 64)]
    pub leaves: usize,
    /// Spines
    #[arg(long, default_value_t = 4)]
    pub spines: usize,
    /// Repetitions of measurements that are made one by one
    #[arg(long, default_value_t = 500)]
    pub samples: usize,
    /// Networks, each with one attachment, that are created in a burst
    #[arg(long, default_value_t = 10_000)]
    pub burst: usize,
    /// Attachments that are created in one network
    #[arg(long, default_value_t = 30_000)]
    pub crowd: usize,
    /// Changes in the transaction that is planned
    #[arg(long, default_value_t = 1_000)]
    pub planned: usize,
    /// Watchers that watch one vDC each
    #[arg(long, default_value_t = 1_000)]
    pub watchers: usize,
    /// Watchers of everything
    #[arg(long, default_value_t = 16)]
    pub watchers_of_all: usize,
    /// Changes a second that they watch
    #[arg(long, default_value_t = 1_000)]
    pub changes_per_s: usize,
    /// Seconds that each level of clients writes, and that watchers watch
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

impl Size {
    /// Sizes with which everything takes seconds. They show that all rows work, but say nothing about speed.
    pub fn small() -> Self {
        Self {
            networks: 1_000,
            vdcs: 20,
            attachments: 200,
            hosts: 8,
            leaves: 4,
            spines: 2,
            samples: 5,
            burst: 40,
            crowd: 120,
            planned: 20,
            watchers: 10,
            watchers_of_all: 2,
            changes_per_s: 50,
            seconds: 1,
        }
    }

    /// Networks of a vDC.
    pub(super) fn networks_of_vdc(&self) -> usize {
        (self.networks / self.vdcs.max(1)).max(1)
    }

    /// Attachments of a vDC, once it is loaded.
    pub(super) fn attachments_of_vdc(&self) -> usize {
        self.attachments / self.vdcs.max(1)
    }
}
