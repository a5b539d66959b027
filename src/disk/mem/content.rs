//! What a file contains, what of it is durable, and what it contained in between.

use std::collections::BTreeMap;

/// The bytes of one file.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What unsynced sectors contained one after the other since the last sync.
    sectors: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// What the size was since the last sync.
    sizes: Vec<usize>,
    /// What is on the disk of sectors that a sync failed to write: as Linux does, they count as
    /// written from then on, until something is written there again.
    dropped: BTreeMap<usize, [u8; SECTOR]>,
}

impl Content {
    /// A file whose bytes are all durable.
    pub fn durable(bytes: Vec<u8>) -> Self {
        Content { durable: bytes.clone(), bytes, ..Content::default() }
    }

    pub fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.set_size(end);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.note(offset, end);
    }

    pub fn set_size(&mut self, size: usize) {
        let old = self.bytes.len();
        self.bytes.resize(size, 0);
        self.sizes.push(size);
        // What is cut off reads as zeros if the file grows again.
        self.note(size, old);
    }

    pub fn sync(&mut self) {
        self.durable.clone_from(&self.bytes);
        for (&sector, content) in &self.dropped {
            let from = self.durable.len().min(sector * SECTOR);
            let there = self.durable.len().min(from + SECTOR) - from;
            self.durable[from..from + there].copy_from_slice(&content[..there]);
        }
        self.sectors.clear();
        self.sizes.clear();
    }

    /// A sync failed.
    pub fn fail_to_sync(&mut self) {
        for sector in std::mem::take(&mut self.sectors).into_keys() {
            let content = sector_of(&self.durable, sector);
            self.dropped.entry(sector).or_insert(content);
        }
    }

    /// What was synced.
    pub fn synced(&self) -> Content {
        Content::durable(self.durable.clone())
    }

    /// What a power loss may leave.
    pub fn after_power_loss(&self, random: &mut Random) -> Content {
        let size = match random.below(self.sizes.len() + 1) {
            0 => self.durable.len(),
            later => self.sizes[later - 1],
        };
        let mut bytes = self.durable.clone();
        bytes.resize(size, 0);
        for (&sector, versions) in &self.sectors {
            let from = sector * SECTOR;
            let kept = random.below(versions.len() + 1);
            if kept > 0 && from < size {
                let end = size.min(from + SECTOR);
                bytes[from..end].copy_from_slice(&versions[kept - 1][..end - from]);
            }
        }
        Content::durable(bytes)
    }

    /// Remembers what the sectors of these bytes contain now.
    fn note(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            self.dropped.remove(&sector);
            let content = sector_of(&self.bytes, sector);
            self.sectors.entry(sector).or_default().push(content);
        }
    }
}

/// The bytes of a sector; zeros behind the end.
fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut content = [0; SECTOR];
    let start = bytes.len().min(sector * SECTOR);
    let there = &bytes[start..bytes.len().min(start + SECTOR)];
    content[..there.len()].copy_from_slice(there);
    content
}

/// A sequence of numbers from a seed: SplitMix64 (Steele, Lea and Flood 2014).
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// Bytes that reach the disk together.
pub(super) const SECTOR: usize = 512;
