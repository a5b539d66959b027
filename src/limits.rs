//! Every maximum and every fixed interval, in one place.

/// Longest datagram in either direction, in bytes: fits an IPv6 minimum-MTU path (1,280 bytes,
/// RFC 8200 section 5) with room for headers and tunnels.
pub const DATAGRAM_MAX: usize = 1200;

/// Data bytes that one read reply carries.
pub const READ_MAX: usize = 1024;
/// Longest file name on the wire, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest of the strings with which a client describes itself, in bytes.
pub const CLIENT_TEXT_MAX: usize = 63;
/// Longest reason for a revocation, in bytes.
pub const REASON_TEXT_MAX: usize = 200;
/// Records of what has happened to the lock that a server keeps, unless its operator sets another
/// number; older ones are forgotten.
pub const HISTORY_LIMIT_DEFAULT: u32 = 10_000;
/// The most that an operator may set: every checkpoint and the manifest of a backup have them all.
pub const HISTORY_LIMIT_MAX: u32 = 50_000;
/// Longest manifest of a backup, in bytes: well above what the history and the files take at most.
pub const MANIFEST_MAX: u64 = 64 << 20;
/// The most servers of a cluster.
pub const SERVERS_MAX: usize = 9;
/// Longest address under which the servers of a cluster reach each other, in bytes.
pub const PEER_ADDR_MAX: usize = 64;
/// Servers that ask to be let in, as many as a leader remembers.
pub const WAITING_MAX: usize = 4;
/// Pieces of one large append that may be on their way at once.
pub const WINDOW_MAX: u64 = 64;

/// Bytes one section may stage, unless the server's operator sets another limit.
pub const SECTION_LIMIT_DEFAULT: u64 = 64 << 20;
/// The largest section limit an operator may set: lengths of an append travel as 32-bit numbers.
pub const SECTION_LIMIT_MAX: u64 = 1 << 31;
/// Data files of a fresh data directory, unless the operator sets another number.
pub const FILES_DEFAULT: u32 = 100;
/// The most data files a data directory can have: each keeps a descriptor open.
pub const FILES_MAX: u32 = 10_000;
/// Sessions at once; one more `RPC_init` is refused.
pub const SESSIONS_MAX: usize = 1_000_000;
/// Sessions at once, unless the operator sets another number: about 150 MB of memory.
pub const SESSION_LIMIT_DEFAULT: u64 = 200_000;
/// Free space, in bytes, that is kept for what must always be possible: giving the lock back,
/// expiry. The operator may keep more.
pub const DISK_FLOOR_DEFAULT: u64 = 256 << 10;

/// Sessions and tokens count up from `epoch << EPOCH_SHIFT`: 2^24 starts of a server, and in each
/// 2^40 grants (two years at 15,000 a second).
pub const EPOCH_SHIFT: u32 = 40;

/// Lease of a grant, unless the operator sets another, in milliseconds.
pub const LEASE_MS_DEFAULT: u64 = 10_000;
/// Shortest lease an operator may set, in milliseconds.
pub const LEASE_MS_MIN: u64 = 20;
/// Longest lease an operator may set, in milliseconds: a day.
pub const LEASE_MS_MAX: u64 = 86_400_000;
/// Idle sessions that hold nothing end after this long, unless the operator sets another time.
pub const SESSION_TTL_MS_DEFAULT: u64 = 600_000;
/// Shortest idle time an operator may set for sessions, in milliseconds.
pub const SESSION_TTL_MS_MIN: u64 = 100;
/// Longest idle time an operator may set for sessions, in milliseconds: thirty days.
pub const SESSION_TTL_MS_MAX: u64 = 30 * 86_400_000;
/// How long the last reply of a closed session is kept for a client that did not get it.
pub const LINGER_MS: u64 = 60_000;

/// Waiters that get their place among the first so many are told of it only when they ask again.
pub const UNTOLD_MAX: usize = 64;
/// A waiter at position `p` asks again after `p` times this, in milliseconds...
pub const ASK_AGAIN_MS_STEP: u64 = 100;
/// ... but at least this often, in milliseconds.
pub const ASK_AGAIN_MS_MAX: u64 = 60_000;
/// A waiter later than its interval by this much is silent: its turn passes to the next.
pub const SILENCE_GRACE_MS: u64 = 2_000;
/// A waiter heard within this time before its turn is granted outright; any other is told that
/// its turn has come and is granted when it asks.
pub const FRESH_MS: u64 = 10;
/// How long a waiter has to ask after being told that its turn has come (but never more than half
/// a lease).
pub const TURN_MS_MAX: u64 = 1_000;
/// First repetition of "your turn" or of a grant while the client is silent; the interval doubles.
pub const TURN_REPEAT_MS: u64 = 20;
/// The most silent waiters that one command skips.
pub const SKIP_MAX: usize = 64;

/// Client: how long a call tries to reach a server, unless `BATON_TIMEOUT_MS` says otherwise.
pub const TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Client: how long closing waits for an answer while nothing is held.
pub const CLOSE_WAIT_MS: u64 = 2_000;
/// Client: retransmission timeout before the first measured round trip, in microseconds. RFC 6298
/// (2.1) says one second; a lock on a local network starts lower.
pub const RTO_INITIAL_US: u64 = 100_000;
/// Client: smallest retransmission timeout, in microseconds.
pub const RTO_MIN_US: u64 = 10_000;
/// Client: largest retransmission timeout after doubling, in microseconds.
pub const RTO_MAX_US: u64 = 1_000_000;

/// Client and server: how long to look for a datagram before blocking, unless `BATON_SPIN_US` says
/// otherwise, in microseconds: the time of some round trips on one machine.
pub const SPIN_US_DEFAULT: u64 = 50;
/// The most of it, in microseconds.
pub const SPIN_US_MAX: u64 = 1_000;

/// Log: a segment is closed at this size, in bytes.
pub const SEGMENT_MAX: u64 = 64 << 20;
/// Entries that recovery gathers before they are applied.
pub const GATHERED: usize = 1024;
/// Log: the largest payload of one entry, in bytes.
pub const ENTRY_MAX: usize = 1 << 20;
