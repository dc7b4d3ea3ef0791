//! Options of bmv2 that are accepted without effect, so that scripts for bmv2 run. Any other unknown option is an
//! error.

/// Each with its reason in [`Inert::reasons`].
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Taken for bmv2, without effect")]
pub(crate) struct Inert {
    /// Address of an event log
    #[arg(long, value_name = "ADDRESS")]
    nanolog: Option<String>,
    /// Address of notifications
    #[arg(long, value_name = "ADDRESS")]
    notifications_addr: Option<String>,
    /// Wait for a debugger
    #[arg(long)]
    debugger: bool,
    /// Address of a debugger
    #[arg(long, value_name = "ADDRESS")]
    debugger_addr: Option<String>,
    /// Octets of each packet to log
    #[arg(long, value_name = "N")]
    dump_packet_data: Option<u64>,
    /// Refuse to replace the program
    #[arg(long)]
    disable_swap: bool,
    /// Address of a gRPC service for packets
    #[arg(long, value_name = "ADDRESS")]
    dp_grpc_server_addr: Option<String>,
    /// Write each line of the log at once
    #[arg(long)]
    log_flush: bool,
}

impl Inert {
    /// The options that were given, each with the reason why it changes nothing.
    pub(crate) fn reasons(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            (
                self.nanolog.is_some(),
                "--nanolog",
                "there is no nanomsg event log; --trace prints what happens to each packet",
            ),
            (
                self.notifications_addr.is_some(),
                "--notifications-addr",
                "digests and idle entries are reported over P4Runtime, links over gNMI",
            ),
            (
                self.debugger || self.debugger_addr.is_some(),
                "--debugger",
                "there is no debugger; --trace prints what happens to each packet",
            ),
            (
                self.dump_packet_data.is_some(),
                "--dump-packet-data",
                "--pcap records whole packets, --trace prints what happens to them",
            ),
            (
                self.disable_swap,
                "--disable-swap",
                "only the primary of P4Runtime can replace the program",
            ),
            (
                self.dp_grpc_server_addr.is_some(),
                "--dp-grpc-server-addr",
                "packets enter and leave only through ports and P4Runtime",
            ),
            // No reason: it asks for what the switch does anyway.
            (false, "--log-flush", ""),
        ];
        let given = all.into_iter().filter(|(given, ..)| *given);
        given.map(|(_, option, reason)| (option, reason)).collect()
    }
}
