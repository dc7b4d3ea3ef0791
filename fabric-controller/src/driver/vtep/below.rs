//! Requests of a host: from the wire to the controller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tonic::{Code, Status};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Mac, Name};
use vtep_proto::v1;

/// Most addresses in one request.
const MAX_IPS: usize = 64;
/// Length of a workload's identity: long enough for one that nobody guesses.
const WORKLOAD: std::ops::RangeInclusive<usize> = 16..=128;

/// Identifies a workload's interface; the host is known from its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The vDC.
    pub vdc: Name,
    /// Name of the pod's namespace in `/run/netns`.
    pub netns: String,
    /// Name of the interface in it.
    pub interface: String,
    /// Identity of the workload, if it may move to another host with its attachment.
    pub workload: Option<String>,
}

/// A workload's interface, as a host requests it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Where it is.
    pub spot: Spot,
    /// The tenant network.
    pub network: Name,
    /// Its MAC address; `None`: derived.
    pub mac: Option<Mac>,
    /// Its addresses; none: allocated.
    pub ips: Vec<IpAddr>,
}

/// Carries out the requests of hosts.
#[tonic::async_trait]
pub trait Below: Send + Sync {
    /// Attaches; returns the attachment's id once host and leaf have applied it.
    async fn attach(&self, host: Name, ask: Ask) -> Result<String, ApiError>;
    /// Moves an attachment to another network of its vDC; returns like `attach`.
    async fn swap(&self, host: Name, ask: Ask) -> Result<String, ApiError>;
    /// Detaches.
    async fn detach(&self, host: Name, spot: Spot) -> Result<(), ApiError>;
}

fn malformed(field: &str, value: impl std::fmt::Display, expected: &str) -> Status {
    Status::invalid_argument(format!("{field}: `{value}`: expected {expected}"))
}

fn name(field: &str, value: &str) -> Result<Name, Status> {
    value
        .parse()
        .map_err(|e| Status::invalid_argument(format!("{field}: {e}")))
}

/// An identity of a workload; empty: none.
fn workload(value: String) -> Result<Option<String>, Status> {
    let is_good = value.is_empty() || (WORKLOAD.contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic()));
    match is_good {
        true => Ok(Some(value).filter(|value| !value.is_empty())),
        // It is not repeated: who knows it may take the workload over.
        false => Err(malformed(
            "workload",
            format!("{} octets", value.len()),
            "16 to 128 printable ASCII characters without a space",
        )),
    }
}

fn ip(i: usize, octets: &[u8]) -> Result<IpAddr, Status> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    let wrong = |_| malformed(&format!("ips[{i}]"), octets.len(), "4 or 16 octets");
    <[u8; 16]>::try_from(octets)
        .map(|v6| Ipv6Addr::from(v6).into())
        .map_err(wrong)
}

impl TryFrom<v1::AttachRequest> for Ask {
    type Error = Status;

    fn try_from(r: v1::AttachRequest) -> Result<Self, Status> {
        if r.ips.len() > MAX_IPS {
            return Err(malformed("ips", r.ips.len(), "at most 64 addresses"));
        }
        let mac = match r.mac.as_slice() {
            [] => None,
            octets => {
                let wrong = |_| malformed("mac", octets.len(), "6 octets, or none");
                Some(Mac(octets.try_into().map_err(wrong)?))
            }
        };
        Ok(Self {
            spot: Spot {
                vdc: name("vdc", &r.vdc)?,
                netns: r.netns,
                interface: r.interface,
                workload: workload(r.workload)?,
            },
            network: name("network", &r.network)?,
            mac,
            ips: r
                .ips
                .iter()
                .enumerate()
                .map(|(i, o)| ip(i, o))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v1::DetachRequest> for Spot {
    type Error = Status;

    fn try_from(r: v1::DetachRequest) -> Result<Self, Status> {
        Ok(Self {
            vdc: name("vdc", &r.vdc)?,
            netns: r.netns,
            interface: r.interface,
            workload: workload(r.workload)?,
        })
    }
}

/// An error of the controller, as agents see it.
pub(super) fn status(error: &ApiError) -> Status {
    let code = match error.code {
        ErrorCode::Malformed | ErrorCode::Invalid | ErrorCode::TooLarge | ErrorCode::UnsupportedMediaType => {
            Code::InvalidArgument
        }
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => Code::PermissionDenied,
        ErrorCode::NotFound | ErrorCode::Gone => Code::NotFound,
        ErrorCode::PreconditionFailed => Code::FailedPrecondition,
        ErrorCode::AlreadyExists | ErrorCode::InUse | ErrorCode::Taken | ErrorCode::Owned => Code::AlreadyExists,
        ErrorCode::Exhausted | ErrorCode::TooMany => Code::ResourceExhausted,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Internal => Code::Internal,
    };
    Status::new(code, error.to_string())
}
