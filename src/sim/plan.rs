//! What a seed decides before a run begins: how many clients, which settings, and which faults
//! there are at all. Most seeds have only some kinds of fault, so that a rare combination is not
//! drowned by all the others; some have none, and then nothing at all may go wrong.

use crate::limits::{GATHERED, LINGER_MS, SESSIONS_MAX};
use crate::proxy::random::Random;
use crate::server::core::{Limits, Settings};

/// The parameters of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: usize,
    pub files: u32,
    pub lease_ms: u64,
    pub session_ttl_ms: u64,
    pub section_limit: u64,
    pub segment_max: u64,
    /// `--durability sync`.
    pub syncs: bool,
    /// How far the clocks of clients may run off, in parts per million.
    pub drift_ppm: u64,
    /// Longest pause of a client between two calls, in microseconds.
    pub pause_us: u64,
    /// What the server takes on.
    pub limits: Limits,
    /// Clients look at the server as operators do, and take the lock from each other.
    pub operators: bool,
    /// Clients' addresses change under them, as behind a router.
    pub moves: bool,
    /// Some waits for the lock are cancelled.
    pub cancels: bool,
    /// Entries that recovery gathers before they are applied.
    pub gathered: usize,
    /// Settings are changed under the servers.
    pub reloads: bool,
    /// Some starts have more files than the one before.
    pub grows: bool,
    /// Operators ask also how the server is.
    pub surveys: bool,
    pub faults: Faults,
}

/// What settings have been in force in a run so far, from the least to the most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub lease_ms: u64,
    pub section: (u64, u64),
    pub data: (u64, u64),
    pub history: u32,
    /// A registration may be refused because there are too many, closed ones among them.
    pub limits_sessions: bool,
}

impl Bounds {
    pub fn of(plan: &Plan) -> Bounds {
        let (section, limits) = (plan.section_limit, &plan.limits);
        Bounds {
            lease_ms: plan.lease_ms,
            section: (section, section),
            data: (limits.data, limits.data),
            history: limits.history,
            limits_sessions: limits.sessions < SESSIONS_MAX as u64,
        }
    }

    /// This is in force now.
    pub fn include(&mut self, plan: &Plan) {
        let now = Bounds::of(plan);
        let wider = |old: (u64, u64), new: (u64, u64)| (old.0.min(new.0), old.1.max(new.1));
        *self = Bounds {
            lease_ms: self.lease_ms.max(now.lease_ms),
            section: wider(self.section, now.section),
            data: wider(self.data, now.data),
            history: self.history.max(now.history),
            limits_sessions: self.limits_sessions || now.limits_sessions,
        };
    }
}

/// The lease in stories: longer than the longest pause of a client that looks for its server.
pub const STORY_LEASE_MS: u64 = 2_000;

/// Which kinds of fault there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub loss: bool,
    pub duplicates: bool,
    pub delays: bool,
    pub cuts: bool,
    pub client_stalls: bool,
    pub client_crashes: bool,
    pub kills: bool,
    pub power: bool,
    pub stops: bool,
    pub disk_errors: bool,
    pub disk_full: bool,
    /// Reads fail, of files and of the log.
    pub read_errors: bool,
    pub slow_disk: bool,
    pub clock_jumps: bool,
    /// Threads of the server that lose the processor between two steps.
    pub preemption: bool,
}

impl Plan {
    /// Draws a plan. What came to the simulator later is drawn from `more`, so that a seed without
    /// it stays the run that it was; and [`Plan::with_settings`] has what came after that.
    pub fn new(random: &mut Random, more: &mut Random) -> Plan {
        let syncs = !random.chance(0.1);
        let faults = if random.chance(0.1) { Faults::default() } else { Faults::new(random) };
        let plan = Plan::first(syncs, faults, random);
        let read_errors = !plan.is_calm() && more.chance(0.2);
        let section_limit =
            if more.chance(0.1) { more.between(40_000, 200_000) } else { plan.section_limit };
        let mut plan = Plan {
            limits: if more.chance(0.3) { plan.draw_limits(more) } else { plan.limits },
            cancels: more.chance(0.3),
            section_limit,
            operators: more.chance(0.3),
            moves: more.chance(0.2),
            faults: Faults { read_errors, ..plan.faults },
            ..plan
        };
        plan.faults.power |= !plan.syncs && !plan.is_calm() && more.chance(0.5);
        plan
    }

    /// Settings that a run may meet, and change on its way.
    pub fn with_settings(self, latest: &mut Random) -> Plan {
        let (is_short, is_gathered) = (latest.chance(0.2), latest.chance(0.2));
        let mut plan = Plan {
            gathered: if is_gathered { latest.between(1, 32) as usize } else { GATHERED },
            reloads: !self.is_calm() && latest.chance(0.15),
            surveys: self.operators && latest.chance(0.7),
            ..self
        };
        if is_short {
            plan.limits.history = draw_history(latest);
        }
        plan.grows = latest.chance(0.2);
        if latest.chance(0.1) {
            plan.session_ttl_ms = latest.between(LINGER_MS, 4 * LINGER_MS);
        }
        plan
    }

    /// Operators change what can be changed while a server runs.
    pub fn reload(&mut self, random: &mut Random) {
        self.lease_ms = random.between(self.lease_ms / 2, 2 * self.lease_ms).clamp(200, 2_000);
        self.section_limit = random.between(2_000, 40_000);
        let limits = if random.chance(0.5) { self.draw_limits(random) } else { Limits::default() };
        self.limits = Limits { history: self.limits.history, ..limits };
    }

    /// What a server has that starts now: a short history is as short as anybody likes.
    pub fn restart(&mut self, random: &mut Random) {
        if self.limits.history < Limits::default().history {
            self.limits.history = draw_history(random);
        }
        if self.grows && self.files < FILES_MAX && random.chance(0.3) {
            self.files += 1;
        }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            lease_ms: self.lease_ms,
            session_ttl_ms: self.session_ttl_ms,
            section_limit: self.section_limit,
            syncs: self.syncs,
            limits: self.limits,
        }
    }

    fn first(syncs: bool, faults: Faults, random: &mut Random) -> Plan {
        Plan {
            clients: random.between(2, 4) as usize * if random.chance(0.2) { 3 } else { 1 },
            files: random.between(1, 4) as u32,
            lease_ms: if random.chance(0.5) {
                random.between(30, 300)
            } else {
                random.between(300, 5_000)
            },
            session_ttl_ms: random.between(4_000, 60_000),
            section_limit: random.between(2_000, 40_000),
            segment_max: random.between(2_000, 40_000),
            syncs,
            drift_ppm: if random.chance(0.2) { 200 } else { 0 },
            pause_us: if random.chance(0.3) { 200_000 } else { 20_000 },
            limits: Limits::default(),
            operators: false,
            moves: false,
            cancels: false,
            gathered: GATHERED,
            reloads: false,
            grows: false,
            surveys: false,
            faults: Faults { power: faults.power && syncs, ..faults },
        }
    }

    /// Three clients and short leases; what goes wrong is up to the story.
    pub fn of_story() -> Plan {
        Plan {
            clients: 3,
            files: 4,
            lease_ms: STORY_LEASE_MS,
            session_ttl_ms: 60_000,
            section_limit: 40_000,
            segment_max: 40_000,
            syncs: true,
            drift_ppm: 0,
            pause_us: 20_000,
            limits: Limits::default(),
            operators: false,
            moves: false,
            cancels: false,
            gathered: GATHERED,
            reloads: false,
            grows: false,
            surveys: false,
            faults: Faults::default(),
        }
    }

    /// Limits that this run may meet, some of them.
    pub fn draw_limits(&self, more: &mut Random) -> Limits {
        let clients = self.clients as u64;
        let all = Limits::default();
        Limits {
            sessions: if more.chance(0.3) {
                more.between(clients, 3 * clients)
            } else {
                all.sessions
            },
            waiters: if more.chance(0.5) { more.between(1, clients) } else { all.waiters },
            data: if more.chance(0.3) { more.between(1_000, 100_000) } else { all.data },
            history: all.history,
            disk_floor: if more.chance(0.5) { more.between(0, 600_000) } else { all.disk_floor },
        }
    }

    /// Nothing goes wrong in this run.
    pub fn is_calm(&self) -> bool {
        self.faults == Faults::default()
    }
}

/// Data files of a server.
pub const FILES_MAX: u32 = 4;

fn draw_history(random: &mut Random) -> u32 {
    random.between(1, 60) as u32
}

impl Faults {
    /// The disk refuses operations.
    pub fn spoils_disk(&self) -> bool {
        self.disk_errors || self.disk_full || self.read_errors
    }

    fn new(random: &mut Random) -> Faults {
        let mut coin = |probability| random.chance(probability);
        Faults {
            loss: coin(0.6),
            duplicates: coin(0.6),
            delays: coin(0.5),
            cuts: coin(0.3),
            client_stalls: coin(0.4),
            client_crashes: coin(0.4),
            kills: coin(0.4),
            power: coin(0.4),
            stops: coin(0.2),
            disk_errors: coin(0.2),
            disk_full: coin(0.2),
            read_errors: false,
            slow_disk: coin(0.3),
            clock_jumps: coin(0.2),
            preemption: coin(0.5),
        }
    }
}
