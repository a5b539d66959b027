//! `baton history`: what has happened to the lock, and whether the server's account of it holds.

use super::chain::{Chain, Damage};
use super::connect::{Purpose, Server};
use super::exit::{Exit, Failure};
use super::show::{ShowArgs, Table, full_name, local_time, name, plain, print_json, size};
use crate::client::Connection;
use crate::json;
use crate::protocol::inspect::{Hash, HistoryPage, Record, RecordKind};
use crate::types::Millis;
use crate::units::parse_duration_ms;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::json;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

/// How often `--follow` asks for what is new.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Show what has happened to the lock: grants, releases, expiries, revocations, starts
///
/// The server keeps the newest 10,000 records (batond --history-limit), each chained to the one before by a hash.
/// docs/HISTORY.md says what each event means and what --verify can and cannot show.
#[derive(clap::Args, Clone, Debug)]
pub struct HistoryArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// Only what happened since then: a duration (10m, 1d), a time (13:00), a date and time
    /// (2026-11-22 13:00), or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// Only the newest N records
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "since")]
    last: Option<u64>,
    /// Go on with what happens from now on; with --json one record a line
    #[arg(short, long)]
    follow: bool,
    /// Check the chain of hashes instead of showing the records
    #[arg(long, conflicts_with_all = ["since", "last", "follow"])]
    verify: bool,
    /// With --verify: a head that an earlier --verify printed; fails unless that record is still
    /// there and the same
    #[arg(long, value_name = "NUMBER:HASH", requires = "verify", value_parser = head)]
    head: Option<(u64, Hash)>,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(u64),
    At(Millis),
}

/// The server's history, page by page.
struct Reader<'a> {
    connection: Connection,
    server: Server,
    args: &'a HistoryArgs,
}

pub fn run(args: HistoryArgs) -> anyhow::Result<()> {
    let server = args.show.server.find()?;
    let connection = server.connect(Purpose::Look)?;
    let mut reader = Reader { connection, server, args: &args };
    let result = if args.verify { reader.verify() } else { reader.show() };
    // What was asked for is here.
    let _ = reader.connection.close();
    result
}

impl Reader<'_> {
    fn page(&mut self, from: u64) -> anyhow::Result<(HistoryPage, u64)> {
        let page = self.connection.history_page(from);
        page.map_err(|error| self.server.failure(error))
    }

    /// The number of the first record to show.
    fn start(&mut self) -> anyhow::Result<u64> {
        if let Some(last) = self.args.last {
            let (page, _) = self.page(u64::MAX)?;
            return Ok((page.newest + 1).saturating_sub(last).max(page.oldest).max(1));
        }
        let Some(since) = self.args.since else { return Ok(1) };
        let at = match since {
            Since::At(at) => at,
            // By the server's clock, which wrote the times.
            Since::Ago(ms) => {
                let status = self.connection.server_status();
                let status = status.map_err(|error| self.server.failure(error))?;
                Millis(status.now_ms.0.saturating_sub(ms))
            }
        };
        // Records are in the order of their times: halving finds the first without reading all.
        let (page, _) = self.page(u64::MAX)?;
        let (mut low, mut high) = (page.oldest.max(1), page.newest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.page(middle)?.0.records.first() {
                Some(record) if record.at_ms < at => low = record.number.max(middle) + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn show(&mut self) -> anyhow::Result<()> {
        let start = self.start()?;
        if self.args.follow {
            return self.follow(start);
        }
        let mut records = Vec::new();
        let (mut page, mut next) = self.page(start)?;
        // What is recorded while this reads is for the next time.
        let (oldest, newest) = (page.oldest, page.newest);
        while !page.records.is_empty() {
            records.extend(page.records.into_iter().filter(|record| record.number <= newest));
            if next > newest {
                break;
            }
            (page, next) = self.page(next)?;
        }
        if self.args.show.json {
            return print_json(&json::history(oldest, newest, &records));
        }
        let mut table = Table::new(&[">NUMBER", "TIME", "EVENT", ">TOKEN", "CLIENT", "NOTE"]);
        records.iter().for_each(|record| table.row(cells(record)));
        table.print()?;
        if oldest > 1 && records.first().is_some_and(|first| first.number == oldest) {
            eprintln!("baton: the server keeps no more: records before {oldest} are forgotten");
        }
        Ok(())
    }

    fn follow(&mut self, start: u64) -> anyhow::Result<()> {
        let mut from = start;
        loop {
            let (page, next) = self.page(from)?;
            let mut out = io::stdout().lock();
            for record in &page.records {
                match self.args.show.json {
                    true => writeln!(out, "{}", json::record(record))?,
                    false => writeln!(out, "{}", cells(record).join("  ").trim_end())?,
                }
            }
            out.flush()?;
            drop(out);
            if page.records.is_empty() {
                // Whoever reads this through a pipe may be gone; only writing shows it.
                thread::sleep(FOLLOW_EVERY);
            }
            from = next;
        }
    }

    fn verify(&mut self) -> anyhow::Result<()> {
        let mut chain = Chain::default();
        let (mut damage, mut remembered) = (None, None);
        let (mut page, mut next) = self.page(1)?;
        let (oldest, newest) = (page.oldest, page.newest);
        while !page.records.is_empty() {
            if let Some((number, _)) = self.args.head {
                let record = page.records.iter().find(|record| record.number == number);
                remembered = record.map(|record| record.hash).or(remembered);
                // It may be the newest of those that are not kept any more.
                if page.records[0].number == number + 1 {
                    remembered = remembered.or(Some(page.anchor));
                }
            }
            if let Err(found) = chain.check(&page) {
                damage = Some(found);
                break;
            }
            if next > newest {
                break;
            }
            (page, next) = self.page(next)?;
        }
        if let (None, Some((number, hash))) = (&damage, self.args.head) {
            damage = match remembered {
                Some(found) if found != hash => Some(Damage::Replaced(number)),
                None if number > newest => Some(Damage::Cut(number)),
                None if number + 1 < oldest => return Err(too_old(number, oldest)),
                _ => None,
            };
        }
        self.report(&chain, damage)
    }

    fn report(&self, chain: &Chain, damage: Option<Damage>) -> anyhow::Result<()> {
        let head = chain.head().map(|(number, hash)| format!("{number}:{hash}"));
        if self.args.show.json {
            print_json(&json!({
                "schema": "baton.verify/1",
                "is_intact": damage.is_none(),
                "damage": damage.as_ref().map(Damage::to_string),
                "first": chain.first,
                "records": chain.records,
                "head": head,
            }))?;
        }
        if let Some(damage) = damage {
            return Err(
                Failure::new(Exit::Data, format!("the history is damaged: {damage}")).into()
            );
        }
        if !self.args.show.json {
            let first = chain.first.unwrap_or(0);
            writeln!(io::stdout(), "Intact: {} records, from number {first} on.", chain.records)?;
            if let Some(head) = head {
                writeln!(io::stdout(), "Head: {head}")?;
                writeln!(
                    io::stdout(),
                    "Kept elsewhere, it shows later whether all of this was rewritten: --head."
                )?;
            }
        }
        Ok(())
    }
}

fn too_old(number: u64, oldest: u64) -> anyhow::Error {
    let message = format!(
        "record {number} is not kept any more, the oldest is {oldest}: remember a newer head"
    );
    Failure::new(Exit::Failed, message).into()
}

fn cells(record: &Record) -> Vec<String> {
    vec![
        record.number.to_string(),
        local_time(record.at_ms),
        record.kind.word().to_owned(),
        match record.token.0 {
            0 => "-".to_owned(),
            token => token.to_string(),
        },
        match record.session.0 {
            0 => "-".to_owned(),
            _ => name(&record.client),
        },
        note(record),
    ]
}

fn note(record: &Record) -> String {
    let bytes = size(record.bytes);
    match record.kind {
        RecordKind::Started => "the server started".into(),
        RecordKind::Granted => {
            format!(
                "program {}, user {}",
                plain(&record.client.program),
                plain(&record.client.user)
            )
        }
        RecordKind::Released => format!("{bytes} published"),
        RecordKind::Cancelled => "given back unseen".into(),
        RecordKind::Skipped if record.token.0 == 0 => "silent while it waited".into(),
        RecordKind::Skipped => "silent when its turn came".into(),
        RecordKind::Aborted | RecordKind::Expired => format!("{bytes} discarded"),
        RecordKind::Evicted if record.token.0 == 0 => "its session was lost while it waited".into(),
        RecordKind::Evicted => format!("its session was lost, {bytes} discarded"),
        RecordKind::Revoked => match &record.revocation {
            Some(by) => {
                format!("{bytes} discarded, by {}: {}", full_name(&by.client), plain(&by.reason))
            }
            None => format!("{bytes} discarded"),
        },
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ms) = parse_duration_ms(text) {
        return Ok(Since::Ago(ms));
    }
    let zone = TimeZone::system();
    let local = |time: civil::DateTime| time.to_zoned(zone).map(|time| time.timestamp()).ok();
    let found = match (text.parse::<Timestamp>(), text.parse::<civil::DateTime>()) {
        (Ok(at), _) => Some(at),
        (_, Ok(time)) => local(time),
        _ => text.parse::<civil::Time>().ok().and_then(|time| {
            local(Timestamp::now().to_zoned(TimeZone::system()).date().to_datetime(time))
        }),
    };
    let ms = found.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    ms.map(|ms| Since::At(Millis(ms))).ok_or_else(|| {
        "expected a duration (10m), a time (13:00), a date and time (2026-11-22 13:00) or RFC 3339"
            .into()
    })
}

fn head(text: &str) -> Result<(u64, Hash), String> {
    let parts = text.split_once(':');
    let parts =
        parts.and_then(|(number, hash)| Some((number.parse().ok()?, Hash::from_hex(hash)?)));
    parts.ok_or_else(|| "expected a number, a colon and 64 hexadecimal digits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_durations_and_times() {
        assert_eq!(since("10m"), Ok(Since::Ago(600_000)));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::At(Millis(1_000))));
        assert_eq!(since("2023-11-14T23:13:20+01:00"), Ok(Since::At(Millis(1_700_000_000_000))));
        for text in ["2026-11-22 13:00", "13:00", "2026-11-22T13:00:05"] {
            assert!(matches!(since(text), Ok(Since::At(_))), "{text}");
        }
        for text in ["", "yesterday", "1960-01-01T00:00:00Z"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
