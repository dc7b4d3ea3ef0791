use std::io;

/// Why the client cannot work.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// There is no such interface, or it is not an Ethernet one.
    #[error("interface `{0}`: there is no such Ethernet interface")]
    NoInterface(String),
    /// The system refuses a socket.
    #[error("interface `{interface}`: {what}")]
    Socket {
        /// The interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The system refuses a change of the interface.
    #[error("interface `{interface}`: {what}")]
    Netlink {
        /// The interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: rtnetlink::Error,
    },
}
