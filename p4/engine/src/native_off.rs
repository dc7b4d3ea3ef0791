//! Replaces `native` in builds without that feature: there is no machine code, and the interpreter runs all packets.

use crate::core::Core;
use crate::packet::Packet;
use crate::program::Program;
use crate::refused::Refused;
use crate::trace::NoTrace;

/// Machine code of a program; no value of it exists.
pub(crate) enum Native {}

impl Native {
    /// Always refuses.
    ///
    /// # Errors
    /// Always.
    ///
    /// # Safety
    /// None; the signature is that of the other build.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn new(_: &Program, _: u32) -> Result<Self, Refused> {
        Err(Refused("this build makes no machine code"))
    }

    /// Stages that the interpreter runs, with the reason.
    pub(crate) fn refused(&self) -> &[(&'static str, Refused)] {
        match *self {}
    }

    pub(crate) fn parse(&self, _: Core<'_, NoTrace>, _: &mut Packet) -> bool {
        match *self {}
    }

    pub(crate) fn ingress(&self, _: Core<'_, NoTrace>, _: &mut Packet) -> bool {
        match *self {}
    }

    pub(crate) fn egress(&self, _: Core<'_, NoTrace>, _: &mut Packet) -> bool {
        match *self {}
    }

    pub(crate) fn deparse(&self, _: Core<'_, NoTrace>, _: &mut Packet) -> bool {
        match *self {}
    }
}
