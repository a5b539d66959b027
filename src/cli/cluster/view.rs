//! A cluster as its servers see it together.

use crate::cli::show::{Table, ago};
use crate::client::survey::Answer;
use crate::protocol::inspect::{ClusterView, MemberView};
use serde_json::{Value, json};
use std::io::{self, Write};

/// What the servers that answered have said.
pub struct View {
    /// By the one that knows best: the leader, if it answered.
    best: ClusterView,
    answers: Vec<Answer>,
}

/// One server of the cluster.
struct Row<'a> {
    member: &'a MemberView,
    role: &'static str,
    /// Entries that it lacks on its disk.
    log_behind: Option<u64>,
    /// Committed entries that it has not applied.
    applied_behind: Option<u64>,
    answers: bool,
}

impl View {
    /// The first answer is from the server that knows best.
    pub fn of(answers: Vec<Answer>) -> View {
        let best = answers.first().map(|answer| answer.view.clone()).unwrap_or_default();
        View { best, answers }
    }

    /// The leader itself has answered.
    pub fn is_of_leader(&self) -> bool {
        self.best.leader != 0 && self.best.leader == self.best.server
    }

    pub fn leader(&self) -> u64 {
        self.best.leader
    }

    pub fn newest(&self) -> u64 {
        self.best.newest
    }

    pub fn member(&self, id: u64) -> Option<&MemberView> {
        self.best.members.iter().find(|member| member.server == id)
    }

    /// Entries that the leader has and this server does not.
    pub fn log_behind(&self, id: u64) -> Option<u64> {
        let leader = self.member(self.best.leader)?.log?;
        Some(leader.saturating_sub(self.member(id)?.log?))
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let committed = self.answers.iter().map(|one| one.view.committed).max().unwrap_or(0);
        self.best.members.iter().map(move |member| {
            let own = self.answers.iter().find(|one| one.view.server == member.server);
            Row {
                member,
                role: match member.votes {
                    _ if member.server == self.best.leader => "leader",
                    true => "follower",
                    false => "learner",
                },
                log_behind: self.log_behind(member.server),
                applied_behind: own.map(|one| committed.saturating_sub(one.view.applied)),
                answers: own.is_some(),
            }
        })
    }

    /// `baton.cluster/1`.
    pub fn json(&self) -> Value {
        let server = |row: Row<'_>| {
            json!({
                "number": row.member.server,
                "address": row.member.addr,
                "clients": row.member.clients.map(|addr| addr.to_string()),
                "role": row.role,
                "answers": row.answers,
                "log_behind": row.log_behind,
                "applied_behind": row.applied_behind,
                "heard_ms_ago": row.member.heard_ms_ago,
            })
        };
        json!({
            "schema": "baton.cluster/1",
            "cluster": format!("{:016x}", self.best.cluster),
            "seen_by": self.best.server,
            "leader": (self.best.leader > 0).then_some(self.best.leader),
            "term": self.best.term,
            "committed": self.best.committed,
            "next_number": self.best.newest + 1,
            "waiting": self.best.waiting,
            "servers": self.rows().map(server).collect::<Vec<_>>(),
        })
    }

    pub fn print(&self) -> anyhow::Result<()> {
        let ClusterView { cluster, server, term, committed, .. } = self.best;
        writeln!(io::stdout(), "cluster {cluster:016x}, term {term}, entry {committed} committed")?;
        match (self.best.leader, self.is_of_leader()) {
            (_, true) => {}
            (0, _) => writeln!(io::stdout(), "no leader is known; as server {server} sees it:")?,
            (leader, _) => {
                writeln!(io::stdout(), "server {leader} leads; as server {server} sees it:")?
            }
        }
        for waiting in &self.best.waiting {
            writeln!(
                io::stdout(),
                "server {waiting} waits to be let in: baton cluster add {waiting}=HOST:PORT"
            )?;
        }
        let number = |number: Option<u64>| number.map_or("?".into(), |number| number.to_string());
        let mut table = Table::new(&[
            ">NUMBER",
            "ADDRESS",
            "CLIENTS",
            "ROLE",
            ">LOG BEHIND",
            ">APPLIED BEHIND",
            "HEARD",
            "ANSWERS",
        ]);
        for row in self.rows() {
            let clients = row.member.clients.map_or("?".into(), |addr| addr.to_string());
            table.row(vec![
                row.member.server.to_string(),
                crate::cli::show::plain(&row.member.addr),
                clients,
                row.role.into(),
                number(row.log_behind),
                number(row.applied_behind),
                ago(row.member.heard_ms_ago),
                if row.answers { "yes" } else { "no" }.into(),
            ]);
        }
        Ok(table.print()?)
    }
}
