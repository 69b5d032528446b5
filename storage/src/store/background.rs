//! What nobody waits for, in pieces: how long it keeps the core, and when it goes to the disk.

use std::io;

use core_pinning::sync::Permit;
use core_pinning::{AlignedBuf, File};

use super::shared::Shared;

/// Bytes read or written at a time: a journal's write that comes meanwhile is served behind them.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// How long such work keeps a core, microseconds: those who produce wait for it.
const QUANTUM_US: u64 = 100;

/// Lets others run when the quantum is over.
pub(crate) async fn breathe() {
    core_pinning::yield_after(QUANTUM_US).await
}

impl Shared {
    /// A turn at the disk, to be held while a piece is read or written: after the pieces of others, and after the journal's
    /// writes that are under way.
    pub(crate) async fn piece_turn(&self) -> Permit<'_> {
        let turn = self.write_back.turns.wait().await;
        self.journal.writes_ended().await;
        turn
    }

    /// Reads from `position` on, fewer bytes where the file ends.
    pub(crate) async fn read_in_pieces(&self, file: &File, position: u64, len: usize) -> io::Result<AlignedBuf> {
        let mut read = AlignedBuf::new(len);
        while read.len() < len {
            let wanted = PIECE_BYTES.min(len - read.len());
            let turn = self.piece_turn().await;
            let piece = file.read_at(position + read.len() as u64, wanted).await?;
            drop(turn);
            read.extend_from_slice(piece.as_slice());
            breathe().await;
            if piece.len() < wanted {
                break;
            }
        }
        Ok(read)
    }
}
