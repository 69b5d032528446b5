//! How much memory sockets may take, and do.

/// How a shard's sockets use memory. Set once, before the shard's first socket, with [`configure`].
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Receive memory of the shard: this many buffers (a power of two) of `receive_buffer_bytes`.
    pub receive_buffers: u16,
    pub receive_buffer_bytes: usize,
    /// The same for connections that send more than their tasks take at once: one receive for each buffer.
    pub bulk_buffers: u16,
    pub bulk_buffer_bytes: usize,
    /// Let the kernel put several receives into one buffer, where it can (Linux 6.12).
    pub incremental: bool,
    /// Received bytes a connection may queue before its receive is stopped until its task catches up. The kernel may
    /// deliver more until it sees that: such pieces are set aside, so that nobody else starves.
    pub rx_limit: usize,
    /// Received bytes that may lie outside the receive memory, because their tasks do not read them now. Where there is no room for
    /// more, the connection that has queued most is ended.
    pub aside_bytes: usize,
}

impl Default for NetOptions {
    fn default() -> Self {
        NetOptions {
            receive_buffers: 16,
            receive_buffer_bytes: 256 << 10,
            bulk_buffers: 32,
            bulk_buffer_bytes: 64 << 10,
            incremental: true,
            rx_limit: 256 << 10,
            aside_bytes: 64 << 20,
        }
    }
}

/// How a listener accepts, and what its connections begin with.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Every shard can listen on the same address, and the kernel spreads connections.
    pub reuse_port: bool,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Bytes that the kernel holds of what a connection has received and nobody has read, and of what it has to send; `None`: as many
    /// as the kernel likes. It counts its own part as well, so it doubles both, and it takes no more than its own limits.
    pub receive_bytes: Option<u32>,
    pub send_bytes: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions { reuse_port: false, backlog: 128, receive_bytes: None, send_bytes: None }
    }
}

/// What a shard's sockets hold now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    pub connections: usize,
    /// Receive buffers in all, and those the kernel can receive into.
    pub receive_buffers: u16,
    pub receive_buffers_free: u16,
    /// Received bytes outside them.
    pub aside_bytes: usize,
}
