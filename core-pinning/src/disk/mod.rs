//! Files of one shard, through its ring.

#[cfg(not(sim))]
mod blocking;
mod file;
pub mod fs;
#[cfg(sim)]
use crate::sim::blocking;

pub use crate::iobuf::IoBuf;
pub(crate) use file::FileInner;
pub use file::{File, OpenOptions};

use crate::{
    fault::{self, DiskOp, Effect},
    reactor::Reactor,
    shard::lane,
};
use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path, rc::Rc};

pub(crate) fn reactor() -> Rc<Reactor> {
    lane::current().reactor.clone()
}

pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path contains a zero byte"))
}

/// The fault a test wants for an operation that is done whole or not at all.
fn whole_fault(op: DiskOp, path: &Path) -> io::Result<()> {
    match fault::check(op, path) {
        Some(Effect::Error(e) | Effect::Torn(_, e)) => Err(io::Error::from_raw_os_error(e)),
        Some(Effect::Short(_)) | None => Ok(()),
    }
}
