//! The checker of the torture test finds each kind of fault that it is there to find: a good
//! history passes, and every way of spoiling it is named.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Two clients; section 2 of c1 is aborted, section 2 of c2 has no answer to its release.
const C1: &str = "\
grant 1 10 100
append 1 file_0 1 2 0
append 1 file_1 2 0 0
publish 1 110
released 1 0
grant 2 12 300
append 2 file_0 1 3 0
discard 2 310
aborted 2 0
refused 3 4
end 0
";
const C2: &str = "\
grant 1 11 200
append 1 file_0 1 1 0
append 1 file_0 2 1 0
publish 1 210
released 1 0
end 0
";
const FILE_0: &str = "c1 1 10 1/2 bb\nc2 1 11 1/2 b\nc2 1 11 2/2 c\n";
const FILE_1: &str = "c1 1 10 2/2 \n";

/// What the checker says to a history, and whether it accepts it.
fn check(flags: &[&str], c1: &str, c2: &str, file_0: &str, file_1: &str) -> (bool, String) {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for (name, content) in
        [("c1.journal", c1), ("c2.journal", c2), ("data/file_0", file_0), ("data/file_1", file_1)]
    {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_journal.py");
    let output = Command::new("python3")
        .arg(script)
        .args(flags)
        .arg(&data)
        .arg(dir.path().join("c1.journal"))
        .arg(dir.path().join("c2.journal"))
        .output()
        .expect("python3 is needed");
    let text = String::from_utf8(output.stdout).unwrap();
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    (code == Some(0), text)
}

fn accepts(c1: &str, c2: &str, file_0: &str, file_1: &str) {
    let (is_good, text) = check(&[], c1, c2, file_0, file_1);
    assert!(is_good, "{text}");
}

fn rejects(because: &str, c1: &str, c2: &str, file_0: &str, file_1: &str) {
    let (is_good, text) = check(&[], c1, c2, file_0, file_1);
    assert!(!is_good && text.contains(because), "expected {because:?} in:\n{text}");
}

#[test]
fn a_good_history_passes() {
    accepts(C1, C2, FILE_0, FILE_1);
}

#[test]
fn a_section_whose_release_had_no_answer_may_be_there_or_not_but_never_in_part() {
    let unknown = C1.replace("released 1 0\n", "");
    accepts(&unknown, C2, FILE_0, FILE_1);
    let without = FILE_0.strip_prefix("c1 1 10 1/2 bb\n").unwrap();
    accepts(&unknown, C2, without, "");
    rejects("published in part", &unknown, C2, without, FILE_1);
    rejects("published in part", &unknown, C2, FILE_0, "");
}

#[test]
fn a_lost_acknowledged_section_is_found() {
    rejects("acknowledged, but missing in file_1", C1, C2, FILE_0, "");
    let without = FILE_0.strip_prefix("c1 1 10 1/2 bb\n").unwrap();
    rejects("acknowledged, but missing in file_0, file_1", C1, C2, without, "");
}

#[test]
fn a_doubled_section_is_found() {
    rejects("is there twice", C1, C2, FILE_0, &FILE_1.repeat(2));
}

#[test]
fn a_torn_or_changed_section_is_found() {
    rejects("ends within a line", C1, C2, &FILE_0[..FILE_0.len() - 2], FILE_1);
    rejects("not whole or not as appended", C1, C2, &FILE_0.replace("1/2 bb", "1/2 bB"), FILE_1);
    let missing = FILE_0.replace("c2 1 11 2/2 c\n", "");
    rejects("section 1 of c2 (token 11) is not whole", C1, C2, &missing, FILE_1);
    let twice = FILE_0.replace("c2 1 11 1/2 b\n", "c2 1 11 1/2 b\nc2 1 11 1/2 b\n");
    rejects("section 1 of c2 (token 11) is not whole", C1, C2, &twice, FILE_1);
}

#[test]
fn an_interleaved_section_is_found() {
    let mixed = "c2 1 11 1/2 b\nc1 1 10 1/2 bb\nc2 1 11 2/2 c\n";
    rejects("section 1 of c2 (token 11) is not whole", C1, C2, mixed, FILE_1);
}

#[test]
fn sections_out_of_token_order_are_found() {
    let turned = "c2 1 11 1/2 b\nc2 1 11 2/2 c\nc1 1 10 1/2 bb\n";
    rejects("stands after token 11", C1, C2, turned, FILE_1);
}

#[test]
fn a_published_abort_and_a_line_of_nobody_are_found() {
    let aborted = format!("{FILE_0}c1 2 12 1/1 bbb\n");
    rejects("never released, yet in file_0", C1, C2, &aborted, FILE_1);
    rejects("no known section", C1, C2, &format!("{FILE_0}c7 1 9 1/1 \n"), FILE_1);
    rejects("no known section", C1, C2, &format!("{FILE_0}\n"), FILE_1);
}

#[test]
fn a_token_granted_twice_or_falling_is_found() {
    let same = (C2.replace("1 11 200", "1 10 200"), FILE_0.replace(" 11 ", " 10 "));
    rejects("token granted twice", C1, &same.0, &same.1, FILE_1);
    let falling = C1.replace("grant 2 12", "grant 2 9");
    rejects("not above the client's earlier ones", &falling, C2, FILE_0, FILE_1);
    let late = C2.replace("grant 1 11 200", "grant 1 11 400").replace("1 210", "1 410");
    rejects("tokens must rise", C1, &late, FILE_0, FILE_1);
}

#[test]
fn two_holders_at_once_are_found() {
    let overlapping = C2.replace("grant 1 11 200", "grant 1 11 105");
    rejects("was granted while", C1, &overlapping, FILE_0, FILE_1);
}

#[test]
fn a_status_that_should_not_be_is_found() {
    for (good, bad) in [
        ("append 1 file_0 1 2 0", "append 1 file_0 1 2 7"),
        ("released 1 0", "released 1 5"),
        ("aborted 2 0", "aborted 2 3"),
        ("refused 3 4", "refused 3 6"),
        ("end 0", "end 5"),
    ] {
        rejects("status", &C1.replace(good, bad), C2, FILE_0, FILE_1);
    }
    rejects("does not end", &C1.replace("end 0\n", ""), C2, FILE_0, FILE_1);
}

#[test]
fn a_section_whose_lease_has_run_out_is_told_so_and_must_not_be_there() {
    let expired = C1.replace("released 1 0", "released 1 3");
    let without = FILE_0.strip_prefix("c1 1 10 1/2 bb\n").unwrap();
    rejects("status 3 from release", &expired, C2, without, "");
    let (is_good, text) = check(&["--expiring"], &expired, C2, without, "");
    assert!(is_good && text.contains("1 expired"), "{text}");
    // It may have been stopped for as long as it likes.
    let overtaken = C2.replace("grant 1 11 200", "grant 1 11 105");
    assert!(check(&["--expiring"], &expired, &overtaken, without, "").0);
    let (is_good, text) = check(&["--expiring"], &expired, C2, FILE_0, FILE_1);
    assert!(!is_good && text.contains("had expired, yet in file_0"), "{text}");
    // Who has not expired is still judged.
    let (is_good, text) = check(&["--expiring"], C1, &overtaken, FILE_0, FILE_1);
    assert!(!is_good && text.contains("was granted while"), "{text}");
}
