//! Protobuf's text and JSON formats, through reflection over the published descriptors.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use std::sync::LazyLock;

/// A message in protobuf's JSON format; empty if the type is not among the descriptors.
pub fn json(type_name: &str, message: &impl Message) -> String {
    let text = dynamic(type_name, message).and_then(|m| serde_json::to_string_pretty(&m).ok());
    text.map(|t| t + "\n").unwrap_or_default()
}

/// Prints a message; empty if the type is not among the descriptors, which a test rules out.
pub fn print(type_name: &str, message: &impl Message) -> String {
    let options = prost_reflect::text_format::FormatOptions::new().pretty(true);
    dynamic(type_name, message)
        .map(|m| m.to_text_format_with_options(&options) + "\n")
        .unwrap_or_default()
}

fn dynamic(type_name: &str, message: &impl Message) -> Option<DynamicMessage> {
    // Decoding the descriptors takes longer than printing a message.
    static POOL: LazyLock<Option<DescriptorPool>> =
        LazyLock::new(|| DescriptorPool::decode(p4runtime_proto::FILE_DESCRIPTOR_SET).ok());
    let descriptor = POOL.as_ref()?.get_message_by_name(type_name)?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()
}
