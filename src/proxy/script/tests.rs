use super::*;

fn error(text: &str) -> String {
    Script::parse(text).expect_err(text).to_string()
}

#[test]
fn rules_say_what_to_do_with_which_message_and_when() {
    let text = "\n# a comment\n\
                drop request acquire of 1 nth 1   # once\n\
                hold reply to append of 2 nth 3 copy 2 until request release of 1\n\
                duplicate request any times 4 after 20ms\n\
                duplicate request append of 1 at reply granted of 2\n\
                hold reply granted always for 2s\n";
    let script = Script::parse(text).unwrap();
    let pattern = |text: &str| text.parse::<Pattern>().unwrap();
    let wanted = [
        (3, Verb::Drop, "request acquire of 1 nth 1", Some(1), None),
        (
            4,
            Verb::Hold,
            "reply to append of 2 nth 3 copy 2",
            None,
            Some(When::At(pattern("request release of 1"))),
        ),
        (5, Verb::Duplicate, "request any", Some(4), Some(When::After(Duration::from_millis(20)))),
        (
            6,
            Verb::Duplicate,
            "request append of 1",
            Some(1),
            Some(When::At(pattern("reply granted of 2"))),
        ),
        (7, Verb::Hold, "reply granted", None, Some(When::After(Duration::from_secs(2)))),
    ];
    let wanted = wanted.map(|(line, verb, text, times, when)| Rule {
        line,
        verb,
        pattern: pattern(text),
        times,
        when,
    });
    assert_eq!(script.rules, wanted);
}

#[test]
fn an_error_names_the_line_and_what_was_expected_there() {
    assert_eq!(
        error("drop request init\n\nlose request init"),
        r#"line 3: expected "drop", "hold" or "duplicate", found "lose""#
    );
    assert_eq!(error("drop acquire"), r#"line 1: expected "request" or "reply", found "acquire""#);
    assert!(error("drop request granted").contains("init, acquire, cancel, append"));
    assert!(error("drop reply to granted").contains("init, acquire, cancel, append"));
    assert!(error("drop reply acquire").contains("connected, granted, queued"));
    assert_eq!(
        error("drop request init of C1"),
        r#"line 1: expected a client's number, a number from 1 on, found "C1""#
    );
    assert_eq!(
        error("drop request init nth 0"),
        r#"line 1: expected which message, a number from 1 on, found "0""#
    );
    assert_eq!(
        error("hold request init"),
        r#"line 1: expected "until" and an event, or "for" and a time, found the end of the line"#
    );
    assert_eq!(
        error("hold request init for ever"),
        r#"line 1: expected a duration such as 250ms or 2s, found "ever""#
    );
    assert_eq!(
        error("drop request init after 2s"),
        r#"line 1: expected the end of the line, found "after""#
    );
    assert!(error("drop request init of 1 of 2").contains("at most once"));
}

#[test]
fn durations_are_read_with_and_without_a_unit() {
    assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
    assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(parse_duration("2s"), Some(Duration::from_secs(2)));
    assert_eq!(parse_duration("15us"), Some(Duration::from_micros(15)));
    for wrong in ["", "ms", "-1", "1.5s", "3h", "99999999999999999999"] {
        assert_eq!(parse_duration(wrong), None, "{wrong}");
    }
}

#[test]
fn the_scripts_in_the_manual_are_the_ones_that_are_shipped() {
    let manual = include_str!("../../../docs/PROXY.md");
    let shipped = [
        include_str!("../../../docs/proxy/2a.txt"),
        include_str!("../../../docs/proxy/2b.txt"),
        include_str!("../../../docs/proxy/2c.txt"),
        include_str!("../../../docs/proxy/2d.txt"),
        include_str!("../../../docs/proxy/2e.txt"),
    ];
    for script in shipped {
        let (comment, rules) = script.split_once('\n').unwrap();
        assert!(comment.starts_with("# ") && !Script::parse(rules).unwrap().rules.is_empty());
        assert!(manual.contains(&format!("```text\n{rules}```")), "{rules}");
    }
    assert!(manual.contains(&error("\n\nhold request init")));
}
