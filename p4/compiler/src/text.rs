//! Protobuf's text format, through reflection over the published descriptors.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

/// Prints a message; empty if the type is not among the descriptors, which a test rules out.
pub fn print(type_name: &str, message: &impl Message) -> String {
    let pool = DescriptorPool::decode(p4runtime_proto::FILE_DESCRIPTOR_SET);
    let dynamic = pool
        .ok()
        .and_then(|p| p.get_message_by_name(type_name))
        .and_then(|d| DynamicMessage::decode(d, message.encode_to_vec().as_slice()).ok());
    let options = prost_reflect::text_format::FormatOptions::new().pretty(true);
    dynamic
        .map(|m| m.to_text_format_with_options(&options) + "\n")
        .unwrap_or_default()
}
