//! `/metrics`: what is measured, in base units, in the text format of OpenMetrics, or in the older one
//! of Prometheus, which is what linters and simple collectors read. docs/OPERATIONS.md says what each
//! means. No label names a client: there may be any number.

use super::procfs;
use crate::protocol::inspect::RecordKind;
use crate::protocol::{Reason, Status};
use crate::server::cluster::Membership;
use crate::server::meter::{BOUNDS_US, Histogram, OpKind};
use crate::server::threads::{Health, Snapshot};
use crate::wire::Malformed;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::HashSet;
use std::fmt;

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// There a counter's family has the name of its samples, and there are no units and no end.
    Older,
}

impl Format {
    /// For these `Accept` headers: OpenMetrics for whoever names it.
    pub fn accepted<'h>(mut headers: impl Iterator<Item = &'h [u8]>) -> Self {
        let names_it = |accept: &[u8]| {
            let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
            accept.contains("application/openmetrics-text")
        };
        if headers.any(names_it) { Format::OpenMetrics } else { Format::Older }
    }

    /// The media type of the text.
    pub fn kind(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Older => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The text for all that is measured.
    pub fn encode(self, snapshot: Snapshot) -> String {
        let text = open_metrics(snapshot);
        if self == Format::OpenMetrics { text } else { older(&text) }
    }
}

fn open_metrics(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Measures(snapshot)));
    let mut text = String::new();
    // Writing to a string does not fail, and nothing else in it does.
    let _ = text::encode(&mut text, &registry);
    text
}

fn older(text: &str) -> String {
    let family = |line: &str| line.split(' ').nth(2).unwrap_or_default().to_owned();
    let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
    let counters: HashSet<String> =
        text.lines().filter(|line| is_counter(line)).map(family).collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        match family(line) {
            name if line.starts_with("# ") && counters.contains(&name) => {
                older.push_str(&line.replacen(&name, &format!("{name}_total"), 1));
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

struct Measures(Snapshot);

impl fmt::Debug for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measures")
    }
}

impl Collector for Measures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(&mut encoder);
        let snapshot = &self.0;
        requests(&mut out, snapshot)?;
        lock(&mut out, snapshot)?;
        storage(&mut out, snapshot)?;
        server(&mut out, snapshot)?;
        if let Some(member) = &snapshot.cluster {
            cluster(&mut out, member)?;
        }
        process(&mut out)
    }
}

fn requests(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let (meter, counters) = (&snapshot.meter, &snapshot.status.counters);
    let by_op = OpKind::ALL.into_iter().map(|op| (op.word(), meter.requests[op as usize]));
    out.counters("baton_requests", "Well-formed requests that arrived", "op", by_op)?;
    let help = "From taking up a request until its answer could leave";
    // What is read is answered at once.
    let is_timed = |op: &OpKind| !matches!(op, OpKind::Read | OpKind::Inspect | OpKind::Cluster);
    let timed = OpKind::ALL.into_iter().filter(is_timed);
    let by_op = timed.map(|op| (op.word(), &meter.answers[op as usize]));
    out.histograms("baton_request_duration", help, "op", by_op)?;
    let kinds = [("repeated", counters.repeats), ("late", counters.ignored)];
    let help = "Duplicates that arrived: answered as before, or too late to be answered";
    out.counters("baton_request_duplicates", help, "kind", kinds.into_iter())?;
    refusals(out, snapshot)?;
    let kernel = procfs::datagrams_dropped(snapshot.addr).map(|count| ("overrun", count));
    let reasons =
        Malformed::ALL.into_iter().map(|why| (why.word(), snapshot.malformed[why as usize]));
    let help =
        "Datagrams that were dropped: malformed, or overrun when the kernel's buffer was full";
    out.counters("baton_datagrams_dropped", help, "reason", reasons.chain(kernel))?;
    out.counter("baton_replies_unsent", "Replies that the kernel did not take", snapshot.unsent)
}

fn refusals(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let help = "Requests that were refused";
    let mut family = out.family("baton_requests_refused", help, None, MetricType::Counter)?;
    for (status, row) in Status::ALL.into_iter().zip(&snapshot.meter.refused) {
        for (reason, count) in Reason::ALL.into_iter().zip(row) {
            if *count > 0 {
                let labels = [("status", status_word(status)), ("reason", reason_word(reason))];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
    }
    Ok(())
}

fn lock(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let (status, meter, limits) = (&snapshot.status, &snapshot.meter, &snapshot.limits);
    let help = "From asking for the lock until it was granted, or the turn came";
    out.histogram("baton_lock_wait_duration", help, &meter.waits)?;
    let help = "From a grant until the lock was given or taken back";
    out.histogram("baton_lock_hold_duration", help, &meter.holds)?;
    let events = RecordKind::ALL.into_iter().zip(status.recorded);
    let help = "What happened to the lock in the life of the data directory";
    out.counters("baton_lock_events", help, "event", events.map(|(kind, n)| (kind.word(), n)))?;
    out.gauge("baton_lock_held", "1 while somebody holds the lock", (status.token.0 > 0).into())?;
    out.gauge("baton_waiters", "Clients that wait for the lock", status.waiters)?;
    out.gauge("baton_waiters_limit", "The most that may wait", limits.waiters)?;
    out.gauge("baton_sessions", "Sessions that are registered", status.sessions)?;
    out.gauge("baton_sessions_limit", "The most that may be registered", limits.sessions)?;
    out.gauge("baton_history_records", "Records of the history that are kept", status.records)?;
    let most = snapshot.records_limit.into();
    out.gauge("baton_history_records_limit", "The most that are kept; older ones go", most)?;
    let lease = status.lease_ms as f64 / 1e3;
    out.gauge_of("baton_lease", "The lease of a grant", Unit::Seconds, lease)
}

fn storage(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let (status, limits) = (&snapshot.status, &snapshot.limits);
    // What is not known or has no bound is left out.
    let mut bytes = |name, help, bytes| match bytes {
        u64::MAX => Ok(()),
        bytes => out.gauge_of(name, help, Unit::Bytes, bytes as f64),
    };
    bytes("baton_staged", "Staged by the holder and not yet published", status.staged_bytes)?;
    bytes("baton_section_limit", "The most that a section may stage", status.section_limit)?;
    bytes("baton_data", "Published in all data files", status.published_bytes)?;
    bytes("baton_data_limit", "The most that all data files may have", limits.data)?;
    bytes("baton_log", "Size of the write-ahead log", status.log_bytes)?;
    bytes("baton_disk_free", "Free on the disk of the data directory", status.room_bytes)?;
    bytes("baton_disk_floor", "Left free: below it growth is refused", limits.disk_floor)?;
    out.gauge("baton_data_files", "Data files there are", status.files.into())?;
    out.counter("baton_log_entries", "Entries of the log since the beginning", status.log_last)?;
    let behind = |mark: u64| status.log_last.saturating_sub(mark);
    let unstable = behind(status.log_published);
    out.gauge("baton_log_unstable_entries", "Entries not yet stable and published", unstable)?;
    // A member's entries are counted by the cluster.
    if snapshot.cluster.is_none() {
        let help = "Entries that the next start would have to run again";
        let behind = behind(snapshot.checkpointed);
        out.gauge("baton_log_uncheckpointed_entries", help, behind)?;
    }
    let help = "Syncs of the write-ahead log";
    out.histogram("baton_log_sync_duration", help, &snapshot.syncs)
}

fn server(out: &mut Out<'_, '_>, snapshot: &Snapshot) -> fmt::Result {
    let status = &snapshot.status;
    let is = |health| u64::from(snapshot.health == health);
    out.gauge("baton_ready", "1 while the server takes on work", is(Health::Good))?;
    let help = "1 when the log has failed: nothing is acknowledged until a restart";
    out.gauge("baton_log_failed", help, is(Health::Failed))?;
    out.gauge("baton_threads", "Threads that serve", snapshot.threads as u64)?;
    let help = "How often a server has started on this data directory";
    out.counter("baton_starts", help, status.epoch)?;
    let uptime = status.uptime_ms.0 as f64 / 1e3;
    out.gauge_of("baton_uptime", "Since the server started", Unit::Seconds, uptime)?;
    let mut family = out.family("baton_build_info", "The version", None, MetricType::Gauge)?;
    family.encode_family(&[("version", status.version.as_str())])?.encode_gauge(&1_u64)
}

/// Of a member of a cluster.
fn cluster(out: &mut Out<'_, '_>, member: &Membership) -> fmt::Result {
    out.gauge("baton_cluster_term", "The newest term that is known", member.role.term)?;
    let is_leading = u64::from(member.role.is_leading);
    out.gauge("baton_cluster_leading", "1 on the server that leads", is_leading)?;
    let is_led = u64::from(member.role.leader > 0);
    out.gauge("baton_cluster_leader_known", "1 while a leader is known", is_led)?;
    out.gauge("baton_cluster_servers", "Servers of the cluster", member.servers.len() as u64)?;
    let help = "Entries that are committed, as far as this server knows";
    out.counter("baton_cluster_committed_entries", help, member.committed)?;
    let lag = member.committed.saturating_sub(member.applied);
    out.gauge("baton_cluster_lag_entries", "Of them, those not applied here yet", lag)?;
    let help = "Messages to other servers that were lost because too many waited";
    out.counter("baton_cluster_messages_dropped", help, member.dropped)
}

/// Under the names that Prometheus' own clients use.
fn process(out: &mut Out<'_, '_>) -> fmt::Result {
    let Some(process) = procfs::process() else { return Ok(()) };
    let (seconds, bytes) = (Unit::Seconds, Unit::Bytes);
    let mut cpu =
        out.family("process_cpu", "Processor time used", Some(&seconds), MetricType::Counter)?;
    cpu.encode_counter::<NoLabelSet, _, u64>(&process.cpu_seconds, None)?;
    let resident = process.resident_bytes as f64;
    out.gauge_of("process_resident_memory", "Resident memory", bytes, resident)?;
    out.gauge("process_open_fds", "Descriptors that are open", process.open_fds)?;
    out.gauge("process_threads", "Threads of the process", process.threads)
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::FileNotFound => "file_not_found",
        Status::NotHolder => "not_holder",
        Status::LeaseExpired => "lease_expired",
        Status::WouldBlock => "would_block",
        Status::TimedOut => "timed_out",
        Status::Unavailable => "unavailable",
        Status::SessionLost => "session_lost",
        Status::TooLarge => "too_large",
        Status::InvalidArgument => "invalid_argument",
        Status::NotOpen => "not_open",
        Status::SystemError => "system_error",
        Status::Refused => "refused",
        Status::Internal => "internal",
    }
}

fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "none",
        Reason::NoSpace => "no_space",
        Reason::TooManySessions => "too_many_sessions",
        Reason::LogFailed => "log_failed",
        Reason::Skipped => "skipped",
        Reason::Revoked => "revoked",
        Reason::NotHeld => "not_held",
        Reason::TooManyWaiters => "too_many_waiters",
        Reason::DataLimit => "data_limit",
        Reason::NotCluster => "not_cluster",
        Reason::ChangeUnderWay => "change_under_way",
        Reason::NoQuorum => "no_quorum",
        Reason::NumberUsed => "number_used",
        Reason::AddressUsed => "address_used",
        Reason::TooManyServers => "too_many_servers",
        Reason::NotWaiting => "not_waiting",
        Reason::NoSuchServer => "no_such_server",
        Reason::CannotLead => "cannot_lead",
        Reason::LastServer => "last_server",
        Reason::BackupUnderWay => "backup_under_way",
        Reason::NoBackup => "no_backup",
    }
}

/// Writes metrics by kind.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut one = self.family(name, help, None, MetricType::Counter)?;
        one.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'l str, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            let labels = [(label, value)];
            let mut one = family.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauge_of(&mut self, name: &str, help: &str, unit: Unit, value: f64) -> fmt::Result {
        self.family(name, help, Some(&unit), MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let unit = Unit::Seconds;
        encode_histogram(self.family(name, help, Some(&unit), MetricType::Histogram)?, histogram)
    }

    fn histograms<'h>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'static str, &'h Histogram)>,
    ) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut family = self.family(name, help, Some(&unit), MetricType::Histogram)?;
        for (value, histogram) in values {
            encode_histogram(family.encode_family(&[(label, value)])?, histogram)?;
        }
        Ok(())
    }
}

fn encode_histogram(mut out: MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts).collect();
    let sum = histogram.sum_us as f64 / 1e6;
    out.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
}
