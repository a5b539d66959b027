//! The planted bugs that the simulator has to find, and within how many seeds.

/// A bug that a build with the feature `mutants` can plant.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// As the place in the code asks for it.
    pub name: &'static str,
    pub what: &'static str,
    /// Seeds within which it is found.
    pub seeds: u64,
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    mutant("reply_before_write", "answers do not wait for their entry", 300),
    mutant("reply_before_sync", "a release is answered before it is stable", 300),
    mutant("publish_before_sync", "files are written before the log is stable", 300),
    mutant("sync_forgotten", "the log is never synced", 100),
    mutant("sync_error_ignored", "a failed sync counts as done", 2000),
    mutant("checksum_ignored", "a torn entry is taken for whole", 300),
    mutant("torn_tail_kept", "a torn tail is not cut off", 2000),
    mutant("recovery_not_synced", "what a killed server had written is not synced", 2000),
    mutant("files_not_cut", "what is published again is written behind itself", 100),
    mutant("checkpoint_before_files", "a checkpoint vouches for files not synced", 300),
    mutant("token_reused", "a grant has the token of the one before", 20),
    mutant("tokens_without_epoch", "tokens go on from what a crash left", 300),
    mutant("token_not_checked", "any token of the holder's session counts", 300),
    mutant("duplicate_executed", "a request that comes again is done again", 50),
    mutant("stale_request_taken", "a late copy of an earlier call is taken for a new one", 2000),
    mutant("registered_twice", "a registration that comes again makes a second session", 2000),
    mutant("waiter_kept", "who stops waiting keeps its place", 100),
    mutant("last_come_first_served", "the queue is a stack", 20),
    mutant("expires_unwanted", "a lease ends though nobody waits", 300),
    mutant("lease_not_renewed", "requests of the holder do not renew its lease", 100),
    mutant("lease_from_arrival", "a client counts its lease from the answer", 300),
    mutant("dead_holder_kept", "a lease never ends", 50),
    mutant("abort_publishes", "an abort publishes the section", 20),
    mutant("close_discards", "closing forgets the section", 50),
    mutant("half_an_append_published", "pieces of an unfinished append are published", 300),
    mutant("loss_not_told", "a client forgets to say that a section is lost", 100),
    mutant("any_reply_taken", "an answer to an earlier call is taken for the newest", 300),
    mutant("every_answer_counts", "refusals take a number in the client's eyes", 20),
];

const fn mutant(name: &'static str, what: &'static str, seeds: u64) -> Mutant {
    Mutant { name, what, seeds }
}

/// Plants a bug; says by which of its seeds, counted from `first`, it is found, and as what. A seed
/// that fails without it finds nothing.
#[cfg(feature = "mutants")]
pub fn hunt(mutant: &Mutant, first: u64) -> Option<(u64, String)> {
    let run = |name, n| {
        crate::mutant::plant(name);
        let seed = first.wrapping_add(n);
        let failure = super::run(super::Options { seed, ..super::Options::default() }).failure;
        crate::mutant::plant("");
        failure
    };
    (0..mutant.seeds).find_map(|n| {
        let why = run(mutant.name, n)?;
        run("", n).is_none().then_some((n + 1, why))
    })
}
