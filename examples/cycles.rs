//! Sections (acquire, append 32 bytes, release) from bytes to bytes in memory: what
//! `tools/instructions.py` counts under callgrind.
//!
//!     cycles SECTIONS CLIENTS

#[path = "../benches/support/speaker.rs"]
mod speaker;
#[path = "../benches/support/world.rs"]
mod world;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(sections)), Some(Ok(clients))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: cycles SECTIONS CLIENTS");
        std::process::exit(2);
    };
    world::World::new(clients as usize).run(sections);
}
