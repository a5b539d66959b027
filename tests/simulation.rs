//! Simulated systems: stories, seeds that once failed, some new seeds on every run of the tests
//! (`make sim` runs as many as you like), and the promise that a seed is the same run everywhere.

use baton::sim::{self, Options};
use std::process::Command;

fn trace(args: &[&str]) -> Vec<u8> {
    let baton = env!("CARGO_BIN_EXE_baton");
    let output = Command::new(baton).args(["sim", "--trace"]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn is_good(seed: u64) {
    let report = sim::run(Options { seed, ..Options::default() });
    assert_eq!(report.failure, None, "replay: baton sim --seed {seed}");
    assert!(report.calls >= sim::CALLS);
}

fn are_good(seeds: &[u64]) {
    seeds.iter().copied().for_each(is_good);
}

#[test]
fn nothing_goes_wrong_in_the_first_seeds() {
    (0..40).for_each(is_good);
}

/// Some seeds of clusters; `make sim-cluster` runs as many as you like.
#[test]
fn nothing_goes_wrong_in_the_first_seeds_of_clusters() {
    for (servers, seeds) in [(1, 10), (3, 12), (5, 4)] {
        for seed in 0..seeds {
            let report = sim::run(Options { seed, servers, calls: 100, ..Options::default() });
            assert_eq!(report.failure, None, "replay: baton sim --servers {servers} --seed {seed}");
        }
    }
}

#[test]
fn every_story_has_its_one_ending_whatever_the_seed() {
    for tale in sim::TALES {
        // Clusters take longer.
        let seeds = if tale.is_of_cluster() { 5 } else { 25 };
        for seed in 0..seeds {
            let report = sim::play(tale, Options { seed, ..Options::default() });
            let replay = format!("baton sim --story {} --seed {seed}", tale.name);
            assert_eq!(report.failure, None, "replay: {replay}");
        }
    }
}

/// Seeds that failed once. What a seed draws changes whenever the simulator draws something more,
/// so a seed guards against its failure only for as long as the simulator stays as it is; where it
/// was the server or the client that was wrong, a story or a unit test that is named beside it
/// goes on to guard.
mod once_failed {
    use super::are_good;

    /// A name in the data directory that a killed start had made and never synced:
    /// `data::tests::files_made_by_a_killed_start_survive_a_power_loss`.
    #[test]
    fn data_files_made_by_a_killed_start_are_lost_with_the_power() {
        are_good(&[1160, 1298, 1497, 1552, 1580, 2465, 2543, 2655, 3158, 3522, 3770]);
    }

    /// Waiters were taken for silent because the start took long: story `slow-start`.
    #[test]
    fn waiter_is_passed_over_after_a_slow_start() {
        are_good(&[3143, 1203]);
    }

    /// "Lease expired" was told, the power loss took that, and a late copy of the release was done:
    /// story `told-lost`.
    #[test]
    fn section_told_lost_is_published_after_a_power_loss() {
        are_good(&[20_012_977, 20_012_121, 20_015_428]);
    }

    /// An answer to an earlier transmission said "refused", a later one was done.
    #[test]
    fn release_told_refused_was_done() {
        are_good(&[20_007_668]);
    }

    /// A copy of a call that was refused for want of room is done after a restart: a known limit.
    #[test]
    fn late_copy_of_a_refused_call_is_done_after_a_restart() {
        are_good(&[500_092, 501_556, 1122, 10_003_755, 10_022_379, 40_002_658]);
    }

    /// ... in the place of one that a power loss took, and the client went on behind that one: story
    /// `refused-instead`.
    #[test]
    fn late_copy_of_a_refused_call_stands_for_one_that_was_lost() {
        are_good(&[1_795_852_731_181]);
    }

    /// A late piece of an append whose lock was lost in the middle, heard first after a restart:
    /// `machine::tests::late_pieces_of_an_append_that_was_refused_end_a_session_only_where_they_took_effect`.
    #[test]
    fn late_piece_of_a_refused_append_ends_no_session() {
        are_good(&[1_795_856_078_217]);
    }

    /// The simulator was wrong: about clients that a power loss had cut off from their session, ...
    #[test]
    fn belief_of_a_client_whose_session_the_power_loss_took() {
        are_good(&[101_435, 502_347, 30_013_804]);
    }

    /// ... about clients that had stopped waiting, ...
    #[test]
    fn grant_to_a_client_that_has_stopped_waiting() {
        are_good(&[500_586, 502_102, 500_673, 1314, 1930]);
    }

    /// ... about the server's clock, which is read under its lock, ...
    #[test]
    fn lease_of_a_request_whose_thread_was_held_up() {
        are_good(&[500_162]);
    }

    /// ... about late datagrams of clients that were gone, ...
    #[test]
    fn lock_taken_by_a_late_datagram() {
        are_good(&[2153, 3517, 10_001_235, 10_023_004, 10_026_455]);
    }

    /// ... and about who has been heard.
    #[test]
    fn leases_and_silence_are_judged_by_what_the_server_heard() {
        are_good(&[3299, 20_001_931, 20_003_503, 20_006_041, 20_009_247, 20_009_833]);
    }

    #[test]
    fn sessions_outlive_a_start_that_takes_longer_than_their_time_to_live() {
        are_good(&[95_007_360]);
    }

    #[test]
    fn late_copy_of_an_acquire_by_the_holder_takes_no_number() {
        are_good(&[50_057_743]);
    }

    #[test]
    fn loss_found_while_settling_is_told_by_the_next_call() {
        are_good(&[50_059_595]);
    }

    /// The simulator was wrong about who asks with two datagrams of one time: a request that comes
    /// late is no sign of life, and begins a full lease all the same.
    #[test]
    fn lease_of_a_request_that_was_sent_with_another() {
        are_good(&[101_051_112]);
    }

    /// Tokens came again after a power loss under `--durability os`:
    /// `server::core::tests::start_is_synced_also_without_syncs`.
    #[test]
    fn tokens_of_a_start_that_the_power_took() {
        are_good(&[201_000_032, 201_000_047, 201_000_087]);
    }

    /// Without syncs the power took the entry that refused a release; the server had not seen it
    /// when a late copy of the release came, and published.
    #[test]
    fn late_copy_of_a_release_after_the_power_took_its_refusal() {
        are_good(&[1_795_719_883_952]);
    }

    /// Readers saw the section before the client had called release once more.
    #[test]
    fn late_copy_of_a_refused_release_is_seen_at_once() {
        are_good(&[1_795_800_099_736]);
    }

    #[test]
    fn checkpoint_is_never_what_a_failed_attempt_left() {
        are_good(&[7_301_600]);
    }

    /// Nobody was said to hold the lock, and a power loss brought the holder back:
    /// `server::core::tests::that_nobody_holds_the_token_is_told_when_no_power_loss_can_bring_its_holder_back`.
    #[test]
    fn holder_that_an_operator_was_told_of_comes_back() {
        are_good(&[2259, 2685]);
    }

    /// A server was started again with a shorter lease than the holder had been told of:
    /// `server::core::tests::no_holder_loses_time_by_a_start_with_a_shorter_lease`.
    #[test]
    fn holder_was_told_of_a_longer_lease_before_a_restart() {
        are_good(&[10_411, 18_495, 23_547]);
    }

    /// ... or the next leader had one.
    #[test]
    fn holder_was_told_of_a_longer_lease_by_another_leader() {
        clusters_are_good(3, &[20_081, 20_722, 21_128]);
    }

    /// The simulator was wrong about a waiter that is passed over, and ended, in one step.
    #[test]
    fn waiter_is_passed_over_as_its_session_ends() {
        clusters_are_good(3, &[1_795_880_000_288]);
    }

    fn clusters_are_good(servers: usize, seeds: &[u64]) {
        for &seed in seeds {
            let options = super::Options { seed, servers, calls: 120, ..Default::default() };
            assert_eq!(super::sim::run(options).failure, None, "{seed}");
        }
    }

    /// `a_checkpoint_that_was_not_kept_is_made_again` in `server::cluster::applier`.
    #[test]
    fn server_waits_for_a_checkpoint_for_which_the_member_had_no_room() {
        clusters_are_good(1, &[713_000_287, 713_000_425, 713_001_779, 713_002_623]);
    }

    #[test]
    fn server_that_took_over_a_state_of_an_idle_cluster_becomes_a_voter() {
        clusters_are_good(1, &[713_001_051]);
    }

    /// `the_only_voter_says_nothing_of_a_term_that_is_not_stable` in `engine::cluster::tests`.
    #[test]
    fn only_voter_forgets_the_term_in_which_it_led() {
        clusters_are_good(1, &[714_001_528]);
    }

    /// The simulator was wrong about members that end because a sync of theirs has failed before.
    #[test]
    fn member_ends_when_it_finds_that_its_disk_has_failed_long_ago() {
        clusters_are_good(1, &[714_000_470, 715_002_115]);
    }

    /// `a_checkpoint_that_was_not_kept_holds_nothing_up` in `server::cluster::driver`.
    #[test]
    fn state_is_taken_over_while_there_is_no_room_for_a_checkpoint() {
        clusters_are_good(3, &[1_795_855_037_422]);
    }

    #[test]
    fn member_stands_for_election_before_the_journal_knows_of_a_state_that_was_taken_over() {
        clusters_are_good(3, &[901410, 901452]);
    }

    #[test]
    fn disk_that_failed_as_the_faults_ended_is_found_by_whoever_restarts_the_server() {
        super::are_good(&[201040453, 201884929]);
    }

    #[test]
    fn called_waiter_that_asks_was_heard_in_time() {
        are_good(&[7_300_020, 7_300_272]);
    }
}

#[test]
fn a_seed_is_the_same_run_in_every_process() {
    for seed in ["3", "52"] {
        let story = trace(&["--seed", seed]);
        assert!(story.len() > 100_000);
        assert!(story == trace(&["--seed", seed]), "seed {seed} has two stories");
    }
    assert!(trace(&["--seed", "3"]) != trace(&["--seed", "4"]));
    let cluster = ["--servers", "3", "--seed", "5", "--calls", "60"];
    assert!(trace(&cluster) == trace(&cluster));
    let told = ["--story", "duplicates", "--seed", "7"];
    assert!(trace(&told) == trace(&told));
}

#[test]
fn a_run_can_be_cut_off_and_drawn() {
    let options = Options { seed: 52, steps: 1_000, is_told: true, ..Options::default() };
    let report = sim::run(options);
    assert_eq!((report.steps, report.failure), (1_000, None));
    let picture = sim::draw(&report.story.notes, "a story", 0, u64::MAX);
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    assert!(picture.contains("granted"));
}

#[test]
fn picture_of_a_cluster_has_a_lane_for_each_server_and_shows_who_leads() {
    let options = Options { seed: 7, servers: 3, calls: 20, is_told: true, ..Options::default() };
    let report = sim::run(options);
    let picture = sim::draw(&report.story.notes, "a cluster", 0, 600_000);
    for text in ["server 0", "server 2", "leads in term", "this server leads", "vote?"] {
        assert!(picture.contains(text), "{text} is missing");
    }
}

#[test]
fn picture_leaves_out_what_goes_on_and_on() {
    let tale = sim::TALES.iter().find(|tale| tale.name == "stuck-after").unwrap();
    let report = sim::play(tale, Options { seed: 3, is_told: true, ..Options::default() });
    let end = report.story.faults_end().unwrap();
    let picture = sim::draw(&report.story.notes, "a story", 0, end - 1);
    assert!(picture.contains("and so on for"));
    assert!(picture.matches(">queued at 1 #2<").count() < 8);
}

#[test]
fn planted_bugs_have_names_of_their_own() {
    let mut names: Vec<_> = sim::MUTANTS.iter().map(|mutant| mutant.name).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() == sim::MUTANTS.len() && names.len() >= 20);
}
