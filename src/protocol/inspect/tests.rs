//! The bytes of pages and the hashes of records.

use super::*;

const GOLDEN: &str = "43010e849d28565e6fa704aed660555ed10efd80f87c3139e78e458321451d6a";

fn record() -> Record {
    Record {
        number: 7,
        at_ms: Millis(1_700_000_000_000),
        kind: RecordKind::Revoked,
        token: FencingToken(1 << 40),
        session: SessionId(9),
        client: ClientInfo { host: "h".into(), user: "u".into(), program: "p".into(), pid: 1 },
        bytes: 12,
        revocation: Some(Revocation {
            session: SessionId(10),
            client: ClientInfo::default(),
            reason: "stuck".into(),
        }),
        hash: Hash::default(),
    }
}

#[test]
fn every_field_enters_the_hash() {
    let changes: [fn(&mut Record); 12] = [
        |r| r.number += 1,
        |r| r.at_ms.0 += 1,
        |r| r.kind = RecordKind::Expired,
        |r| r.token.0 += 1,
        |r| r.session.0 += 1,
        |r| r.bytes += 1,
        |r| r.client.pid += 1,
        |r| (r.client.host, r.client.user) = ("hu".into(), String::new()),
        |r| r.revocation = None,
        |r| r.revocation.as_mut().unwrap().session.0 += 1,
        |r| r.revocation.as_mut().unwrap().client.program.push('x'),
        |r| r.revocation.as_mut().unwrap().reason.clear(),
    ];
    let previous = Hash([3; 32]);
    let hash = record().chained(previous);
    assert_ne!(hash, record().chained(Hash::default()));
    for (case, change) in changes.iter().enumerate() {
        let mut changed = record();
        change(&mut changed);
        assert_ne!(changed.chained(previous), hash, "case {case}");
    }
}

#[test]
fn the_hash_of_a_record_is_what_the_documents_say() {
    // Computed with Python's hashlib from the table in docs/HISTORY.md.
    let hash = record().chained(Hash([3; 32]));
    assert_eq!(hash.to_string(), GOLDEN);
    assert_eq!(Hash::from_hex(GOLDEN), Some(hash));
    assert_eq!(Hash::from_hex(&GOLDEN[1..]), None);
    assert_eq!(Hash::from_hex(&GOLDEN.replace('9', "g")), None);
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn pages_have_these_bytes() {
    let page = HistoryPage {
        oldest: 1,
        newest: 300,
        anchor: Hash([5; 32]),
        records: vec![Record { hash: Hash([6; 32]), ..record() }],
    };
    let golden = bytes(&[
        &[1, 0xAC, 0x02],
        &[5; 32],
        // One record: number, time, kind, token, session.
        &[1, 7, 0x80, 0xD0, 0x95, 0xFF, 0xBC, 0x31, 7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 9],
        b"\x01h\x01u\x01p\x01",
        // Bytes, then who revoked and why.
        &[12, 1, 10, 0, 0, 0, 0],
        b"\x05stuck",
        &[6; 32],
    ]);
    assert_eq!(postcard::to_stdvec(&page).unwrap(), golden);
    assert_eq!(postcard::from_bytes::<HistoryPage>(&golden).unwrap(), page);
    let client = record().client;
    let page = LockPage {
        now_ms: Millis(1),
        waiting: 2,
        holder: Some(HolderView {
            session: SessionId(3),
            client_id: 4,
            client: client.clone(),
            token: FencingToken(5),
            since_ms: Millis(6),
            lease_left_ms: 7,
            is_called: true,
            staged_bytes: 8,
            heard_ms_ago: None,
        }),
        waiters: vec![WaiterView {
            ticket: Ticket(9),
            session: SessionId(10),
            client_id: 11,
            client,
            since_ms: Millis(12),
            heard_ms_ago: Some(13),
        }],
    };
    let golden = bytes(&[
        &[1, 2, 1, 3, 4],
        b"\x01h\x01u\x01p\x01",
        &[5, 6, 7, 1, 8, 0, 1, 9, 10, 11],
        b"\x01h\x01u\x01p\x01",
        &[12, 1, 13],
    ]);
    assert_eq!(postcard::to_stdvec(&page).unwrap(), golden);
    assert_eq!(postcard::from_bytes::<LockPage>(&golden).unwrap(), page);
    let status = ServerStatus { version: "v".into(), sessions: 300, ..Default::default() };
    // From the epoch to the log's indices, sessions, from the waiters to the records.
    let golden = bytes(&[b"\x01v", &[0; 15], &[0xAC, 0x02], &[0; 18]]);
    assert_eq!(postcard::to_stdvec(&status).unwrap(), golden);
}

proptest::proptest! {
    #[test]
    fn what_is_no_page_is_refused_without_harm(bytes: Vec<u8>) {
        let _ = postcard::from_bytes::<ServerStatus>(&bytes);
        let _ = postcard::from_bytes::<LockPage>(&bytes);
        let _ = postcard::from_bytes::<HistoryPage>(&bytes);
    }
}

#[test]
fn kinds_stand_at_their_numbers() {
    for (number, kind) in RecordKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, number);
    }
    for what in [What::Status, What::Lock, What::History, What::Backup] {
        assert_eq!(What::from_code(what as u8), Some(what));
    }
    assert_eq!(What::from_code(0), None);
}
