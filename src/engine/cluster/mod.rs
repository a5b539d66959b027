//! A cluster: a command is committed when a quorum of the members has it on stable storage.
//!
//! [`node`] drives the consensus library as a pure function; [`log`] is what the library reads,
//! [`journal`] how it is kept in the write-ahead log, [`checkpoint`] what takes the place of its beginning, [`codec`] the bytes between members and
//! [`validate`] what is turned away of them; [`members`] says who belongs to the cluster, and
//! `reform` how the leader changes that. [`replica`] is the state that every member builds
//! from what is committed. The leader also has a state that runs ahead ([`super::leading`]).
//! Threads, sockets and the disk are in [`crate::server`].

pub mod checkpoint;
pub mod codec;
pub mod journal;
pub mod log;
pub mod members;
pub mod node;
pub mod recover;
mod reform;
pub mod replica;
pub mod validate;

#[cfg(test)]
mod tests;
