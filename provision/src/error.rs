//! Why provisioning cannot be done.

use std::path::PathBuf;

/// Errors at the start and in operators' commands. Errors while serving are on the board and in the log.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A file or directory cannot be used.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The settings are not YAML of the documented form.
    #[error("in {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: vfabric_api::yaml::YamlError,
    },
    /// The settings contradict themselves.
    #[error("in {}: {field}: {message}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What was found and what was expected.
        message: String,
    },
    /// The inventory cannot be used.
    #[error("the inventory cannot be used")]
    Inventory(#[from] vfabric_api::topology::TopologyError),
    /// The controller cannot be asked for the inventory.
    #[error("the controller cannot be asked for the inventory")]
    Controller(#[from] vfabric_api::client::ClientError),
    /// A template is missing or wrong.
    #[error("template `{name}`: {message}")]
    Template {
        /// The template, such as `ztp.json`.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A socket cannot be set up.
    #[error("{what}")]
    Socket {
        /// Which one, and what for.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Rights cannot be given up.
    #[error("cannot become user `{user}`: {message}")]
    Rights {
        /// The user.
        user: String,
        /// Why not.
        message: String,
    },
    /// The running server cannot be reached, or it refuses.
    #[error("{0}")]
    Control(String),
}

impl ProvisionError {
    /// For `map_err` of operations on a file.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
