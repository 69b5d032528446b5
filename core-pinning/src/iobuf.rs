//! What a write may take its bytes from.
#![allow(unsafe_code)]

use crate::buf::AlignedBuf;
use bytes::Bytes;
use std::rc::Rc;

/// Bytes that stay where they are while the kernel reads them.
///
/// # Safety
/// `as_ptr` and `len` describe initialised memory that neither moves nor changes from the call of the write until the
/// value is dropped, even if the value itself is moved.
pub unsafe trait IoBuf: 'static {
    fn as_ptr(&self) -> *const u8;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// SAFETY: heap memory owned by the value.
unsafe impl IoBuf for AlignedBuf {
    fn as_ptr(&self) -> *const u8 {
        AlignedBuf::as_ptr(self)
    }
    fn len(&self) -> usize {
        AlignedBuf::len(self)
    }
}

// SAFETY: heap memory owned by the value, and the value is owned by the write.
unsafe impl IoBuf for Vec<u8> {
    fn as_ptr(&self) -> *const u8 {
        Vec::as_ptr(self)
    }
    fn len(&self) -> usize {
        Vec::len(self)
    }
}

// SAFETY: immutable shared memory.
unsafe impl IoBuf for Bytes {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        Bytes::len(self)
    }
}

// SAFETY: static memory.
unsafe impl IoBuf for &'static [u8] {
    fn as_ptr(&self) -> *const u8 {
        <[u8]>::as_ptr(self)
    }
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

// SAFETY: as the inner value, which the `Rc` keeps.
unsafe impl<T: IoBuf> IoBuf for Rc<T> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }
    fn len(&self) -> usize {
        (**self).len()
    }
}

// SAFETY: as the inner value.
unsafe impl IoBuf for Box<dyn IoBuf> {
    fn as_ptr(&self) -> *const u8 {
        (**self).as_ptr()
    }
    fn len(&self) -> usize {
        (**self).len()
    }
}
