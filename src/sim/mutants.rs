//! The planted bugs that the simulator has to find, and within how many seeds.

#[cfg(feature = "mutants")]
use super::{TALES, Tale};

/// A bug that a build with the feature `mutants` can plant.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// As the place in the code asks for it.
    pub name: &'static str,
    pub what: &'static str,
    /// Seeds within which it is found.
    pub seeds: u64,
    /// Of clusters of this many servers; 0: of servers that are in none.
    pub servers: usize,
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
    mutant("half_an_append_published", "pieces of an unfinished append are published", 300),
    mutant("loss_not_told", "a client forgets to say that a section is lost", 100),
    mutant("any_reply_taken", "an answer to an earlier call is taken for the newest", 5000),
    mutant("every_answer_counts", "refusals take a number in the client's eyes", 20),
    mutant("roll_not_synced", "a closed segment of the log was never synced", 2000),
    mutant("log_never_cut", "no segment is ever removed", 100),
    mutant("log_waits_for_release", "while nothing is released the log is never cut", 100),
    mutant("log_cut_early", "a segment is removed that no checkpoint covers", 300),
    mutant("entries_vouch", "entries say that they themselves were synced", 2000),
    mutant("mark_ahead", "the mark says that all is synced that is written", 2000),
    mutant("replaced_unsynced", "a checkpoint is renamed into place before it is synced", 2000),
    mutant("names_unsynced", "a checkpoint's new name is not synced", 2000),
    mutant("full_batch_dropped", "entries that found no space are forgotten", 2000),
    mutant("write_error_ignored", "a failed write counts as done", 2000),
    mutant("written_ahead", "entries count as written while they are being written", 300),
    mutant("flush_ahead", "a flush counts for what was written after it", 300),
    mutant("sections_swapped", "of two sections flushed together the later comes first", 2000),
    mutant("published_twice", "what found no space is published twice", 2000),
    mutant("checkpoint_sizes_wrong", "a checkpoint forgets the size of one section", 300),
    mutant("change_not_noted", "a checkpoint leaves out files that were written", 300),
    mutant("read_off_by_one", "a read begins one byte too late", 20),
    mutant("server_lease_short", "the server counts a lease a tenth too short", 300),
    mutant("server_lease_long", "the server counts a lease a tenth too long", 300),
    mutant("client_lease_long", "a client counts its lease a tenth too long", 300),
    mutant(
        "turn_waits_a_lease",
        "a waiter that does not answer has its turn for a whole lease",
        300,
    ),
    mutant("duplicates_renew", "late duplicates renew the lease", 2000),
    mutant("live_waiter_skipped", "a waiter is passed over that is there", 300),
    mutant("silent_waiter_kept", "a silent waiter is called all the same", 2000),
    mutant("evicted_early", "sessions end in half their time", 300),
    mutant("evicted_holding", "a session ends while it holds the lock", 1000),
    mutant("evicted_never", "idle sessions stay for ever", 20),
    mutant("cancel_keeps_lock", "a cancel that comes after the grant leaves the lock held", 300),
    mutant("close_aborts", "closing while holding gives the section up", 100),
    mutant("gap_accepted", "a request that skips a number is done", 2000),
    mutant("limit_ignored", "a section may have any size", 300),
    mutant("piece_repeated", "a client sends the wrong part of a large append", 100),
    mutant("cancel_same_number", "a cancel has the number of what it cancels", 300),
    mutant("early_forgotten", "pieces that come early stay in memory for ever", 2000),
    mutant("revoke_publishes", "a revoked section is published", 300),
    mutant("revoke_not_stable", "an operator is told of a revocation before it is stable", 100),
    mutant("limit_off_by_one", "one more session or waiter than may be", 300),
    mutant("history_told_early", "a page of the history does not wait until it is stable", 2000),
    mutant("file_cut_short", "recovery cuts the last byte of a file", 20),
    mutant("append_off_by_one", "sections are written one byte too late", 20),
    mutant("read_past_the_end", "a read says that there is a byte more", 20),
    mutant("part_published", "a section is done when its first file is", 100),
    mutant("part_replayed", "recovery publishes the first file of a section only", 300),
    mutant("checkpoint_ahead", "a checkpoint says that it is of one entry more", 300),
    mutant("checkpoint_forgets_staged", "a checkpoint leaves out what is staged", 300),
    mutant("checkpoint_forgets_tickets", "a checkpoint leaves out which ticket is next", 300),
    mutant("checkpoint_forgets_answers", "a checkpoint leaves out which call was answered", 300),
    mutant("ticket_by_length", "a ticket is the length of the queue", 300),
    mutant("section_reversed", "the appends of a section are published last first", 20),
    mutant("append_doubled", "an append that comes again is done again", 50),
    mutant("aborted_goes_on", "the next holder goes on with what was aborted", 50),
    mutant("evicted_keeps_place", "a session that is lost keeps its place in the queue", 300),
    mutant("cancel_keeps_place", "a cancelled acquire keeps its place in the queue", 300),
    mutant("nonce_kept", "a session that has ended stays registered", 20),
    mutant("start_not_stable", "without syncs, a power loss has tokens given again", 1000),
    mutant("sessions_without_epoch", "a power loss has sessions of the same number", 2000),
    mutant("lost_grant_told", "a grant is told that is lost already", 2000),
    mutant("expiry_not_stable", "a power loss may take a loss back that was told", 100),
    mutant("contradiction_passed_over", "a client goes on behind a call that is lost", 2000),
    mutant("refusal_forgotten", "a late copy of a refused call is done", 2000),
    mutant("ack_before_files", "a release is answered before it is in the files", 300),
    mutant("full_flush_dropped", "sections that found no space are forgotten", 300),
    mutant("header_unsynced", "a new segment's header is not synced", 2000),
    mutant("segment_name_unsynced", "a new segment's name is not synced", 2000),
    mutant("anyone_renews", "any client's requests renew the holder's lease", 100),
    mutant("address_kept", "a session is answered where it was first", 300),
    mutant("turn_not_asked", "a silent waiter is granted the lock without asking", 300),
    mutant("lease_by_wall_clock", "leases end early when the wall clock jumps", 300),
    mutant("staged_not_counted", "what is staged does not count towards the limit", 300),
    mutant("lost_token_used", "a client goes on under a token that it was told is lost", 2000),
    mutant("lease_not_cleared", "a client believes in its lease after it was told better", 300),
    mutant("timeout_is_done", "a call that timed out counts as done", 50),
    mutant("history_counts_half", "the history counts appends that were not whole", 2000),
    mutant("history_forgets", "an expiry is not recorded", 100),
    mutant("turn_keeps_ticket", "who is granted the lock counts as waiting", 300),
    mutant("skipped_not_told", "who was passed over is never told", 2000),
    mutant("unseen_grant_kept", "a grant that was lost unseen is told all the same", 2000),
    mutant("loss_not_kept", "why a lock was lost is forgotten", 100),
    mutant("queued_twice", "who waits and asks again has two places", 300),
    mutant("try_waits", "a try waits like any acquire", 100),
    mutant("try_refused", "a try does not get a lock that is free", 100),
    mutant("waiters_backwards", "operators are shown the queue in another order", 100),
    mutant("attempt_not_kept", "which call was answered is forgotten", 50),
    mutant("anybody_revoked", "a revocation takes the lock from whoever holds it", 2000),
    mutant("time_goes_back", "the time in the log goes back with the clock", 300),
    mutant("history_unchained", "records of the history are not chained", 20),
    mutant("half_append_continued", "an append goes on where one was broken off", 2000),
    mutant("limit_half", "a section is refused half of what it may have", 100),
    mutant("limit_per_append", "what is staged does not count towards a section's limit", 300),
    mutant("position_off_by_one", "who is next is told that it is its turn", 300),
    mutant("contradiction_ignored", "a client whose number another call took is left alone", 100),
    mutant("cancel_in_turn_only", "a cancel that overtakes its acquire ends the session", 300),
    mutant("early_window_short", "the first of the pieces that come early ends the session", 300),
    mutant("renew_unchecked", "anybody may renew", 100),
    mutant("full_never_retried", "a full disk is never tried again", 300),
    mutant("cancel_refused_when_full", "a cancel is refused on a full disk", 2000),
    mutant("size_forgotten_at_start", "after a start the files count as empty", 2000),
    mutant("published_not_counted", "what is published does not count towards the limit", 2000),
    mutant("expiry_by_own_entry", "a loss is told before its entry is written", 2000),
    mutant("called_not_answered", "a waiter that was called is never answered", 2000),
    mutant(
        "unheard_touch_forgotten",
        "who is heard first after a start is told what is not written",
        2000,
    ),
    mutant("lease_millisecond_short", "the server counts a lease a millisecond too short", 2000),
    mutant("silence_from_birth", "a start counts as silence", 2000),
    mutant("outbox_off_by_one", "an answer leaves one entry early", 300),
    mutant("publish_off_by_one", "the last section of a flush is left for the next", 300),
    mutant("full_flush_counts", "what found no space counts as published", 2000),
    mutant("roll_syncs_old", "after a new segment the old one is synced", 300),
    mutant("log_cut_one_early", "a segment is removed whose last entry no checkpoint covers", 2000),
    mutant("recovery_names_unsynced", "recovery does not sync the log's names", 2000),
    mutant("first_file_unsynced", "one data file is never synced", 300),
    mutant("data_names_unsynced", "the names of the data files are not synced", 2000),
    mutant("restored_unsynced", "what recovery publishes is never synced", 2000),
    mutant("timeout_clears_loss", "a call that fails otherwise makes a loss forgotten", 100),
    mutant("goodbye_with_token", "a close goes on under the token that it has given back", 100),
    mutant("timeout_is_unavailable", "a call that may be done is said not to be", 300),
    mutant("attempt_repeated", "all calls of a client look the same", 300),
    mutant("operators_blamed", "a lease that ended is told as a revocation", 300),
    mutant("revocation_not_told", "a client does not learn that an operator took its lock", 100),
    mutant("unsure_not_rewritten", "what a failed sync left is taken for written", 2000),
    mutant("failed_file_sync_forgotten", "a failed sync of a data file counts as done", 300),
    mutant("file_sync_retried", "a sync of a data file that failed is tried again", 300),
    mutant("failed_sync_retried", "a sync of the log that failed is tried again", 2000),
    mutant("not_held_not_stable", "a power loss brings back whom nobody was said to be", 5000),
    mutant("history_unbounded", "the history grows for ever", 100),
    mutant("description_kept", "who is in no record any more stays described", 100),
    mutant("longer_lease_not_given", "a longer lease is told and not given", 100),
    mutant("shorter_lease_at_once", "a shorter lease cuts one that was told", 5000),
    mutant("limits_never_change", "a reload leaves the limits as they were", 1000),
    mutant("discarded_not_counted", "the history does not say how much was given up", 100),
    mutant("history_page_skips", "the next page of the history begins one record late", 100),
    mutant("held_since_now", "operators are told another time since when the lock is held", 300),
    mutant("status_counts_holder", "operators are told of one waiter more", 300),
    mutant("half_left_when_full", "a full disk leaves half of a section in a file", 300),
    mutant("gathered_lost", "recovery leaves out what it had gathered", 300),
    mutant("later_files_forgotten", "a checkpoint knows no files that came later", 500),
    mutant("closed_for_long", "a closed session stays for as long as any", 300),
    mutant("evicted_not_recorded", "the history leaves out who was lost while it waited", 1000),
    mutant("wait_not_cancelled", "a wait that is cancelled goes on", 500),
    mutant("patience_forgotten", "a wait with a time limit goes on", 300),
    mutant("revocation_said_undone", "an operator is told that what may be done is not", 2000),
    mutant("revoked_by_holder", "the history says that the holder has revoked its lock", 300),
    mutant("skipped_as_expired", "the history says that who did not answer has held", 1000),
    mutant("waits_since_grant", "operators are told another time since when one waits", 100),
    mutant("queue_page_skips", "the next page of the queue begins one waiter late", 2000),
    member("ack_before_quorum", "a leader answers before a quorum has it", 100),
    member("serves_untrusted", "a leader answers that may have been replaced", 300),
    member("leader_trusted_long", "a leader takes itself for the only one too long", 300),
    member("faithless", "a member that hears a leader helps to elect another", 1000),
    member("deposed_answers", "a deposed leader answers what was not committed", 300),
    member("promise_unsaved", "votes and entries are promised before they are synced", 300),
    member("conflict_kept", "entries that were replaced come back at a restart", 1000),
    member("journal_cut_early", "a checkpoint takes entries away that it does not cover", 300),
    member("state_not_kept", "another's state counts before it is on disk", 1000),
    member("serves_before_own_term", "a leader answers before an entry of its term", 300),
    member("serves_handing_over", "a leader answers after it has handed over", 1000),
    member("lease_halved", "a new leader gives a holder half of its lease", 300),
    member("members_uncommitted", "members change before that is committed", 100),
    member("learner_votes", "a server votes before it has caught up", 100),
    member("removed_stays", "a server that was removed goes on", 300),
    member("begins_unpublished", "a new leader answers before its files are up to date", 1000),
    member("faithless_at_start", "a restarted member forgets the leader that counts on it", 1000),
    member("checkpoint_forgets_vote", "a checkpoint leaves out whom the member voted for", 300),
    member("saved_ahead", "entries count as saved while they are being written", 300),
    member("elects_unsettled", "a member stands for election before it knows what it has", 4000),
    member("applied_before_files", "a leader answers before it has published", 300),
    member("taken_over_while_cutting", "a state is taken over while an older one is written", 1000),
    member("rewind_forgotten", "what was fetched in part counts as published", 1000),
    member("fetch_skips_file", "a member that catches up leaves one file out", 300),
    member("member_files_unsynced", "a member's checkpoint vouches for files not synced", 300),
    member("member_sync_forgotten", "a member's log is never synced", 100),
    member("adopted_unsynced", "what was fetched before a restart is never synced", 1000),
    member("lease_cut_at_start", "a new leader gives a holder no more than its own lease", 1000),
    member("shorter_lease_not_logged", "a longer lease is given to who was not told of it", 1000),
    member("lease_told_early", "a longer lease is told before the others know it", 50),
    member("uncommitted_dropped", "what is too much for the log is left out", 300),
    member("leads_with_empty_files", "a new leader counts the files as empty", 1000),
    member("last_majority_given_up", "a server is removed whom the others need", 1000),
    member("learner_leads", "the lead is handed to a server that has no vote", 500),
    member("founders_unknown", "the founders' data directories are not recorded", 100),
    member("silent_server_leads", "the lead is handed to a server that is not there", 300),
];

const fn mutant(name: &'static str, what: &'static str, seeds: u64) -> Mutant {
    Mutant { name, what, seeds, servers: 0 }
}

/// A bug of a cluster's member.
const fn member(name: &'static str, what: &'static str, seeds: u64) -> Mutant {
    Mutant { name, what, seeds, servers: 3 }
}

/// Plants a bug; says by which of its seeds, counted from `first`, it is found, and as what; where none
/// finds it, by which story; or whether this story finds it. What fails without it finds nothing.
#[cfg(feature = "mutants")]
pub fn hunt(mutant: Mutant, first: u64, tale: Option<&Tale>) -> Option<(String, String)> {
    use super::{Options, play, run};
    let found = |attempt: &dyn Fn() -> super::Report| {
        crate::mutant::plant(mutant.name);
        let why = attempt().failure;
        crate::mutant::plant("");
        why.filter(|_| attempt().failure.is_none())
    };
    let options = |n| {
        let seed = first.wrapping_add(n);
        Options { seed, servers: mutant.servers, ..Options::default() }
    };
    let seeds = if tale.is_some() { 0 } else { mutant.seeds };
    let by_seed = (0..seeds).find_map(|n| {
        let why = found(&|| run(options(n)))?;
        Some((format!("seed {:4} of {:4}", n + 1, mutant.seeds), why))
    });
    let is_meant = |one: &&Tale| match tale {
        Some(tale) => tale.name == one.name,
        None => one.is_of_cluster() == (mutant.servers > 0),
    };
    let tales = TALES.iter().filter(is_meant);
    let mut plays = tales.flat_map(|tale| (0..3).map(move |n| (tale, n)));
    by_seed.or_else(|| {
        plays.find_map(|(tale, n)| {
            let why = found(&|| play(tale, options(n)))?;
            Some((format!("story {}", tale.name), why))
        })
    })
}
