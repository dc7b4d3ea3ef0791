//! First-boot files, rendered for one switch.
//!
//! A template is first looked for as `MODEL/NAME`, then as `default/NAME` in the directory of templates, then among the
//! built-in ones. A variable that does not exist is an error that names the line; it never becomes an empty text in a
//! script.
//!
//! Rendered files are public: any machine that poses as the switch can fetch them. A file that seems to contain a
//! secret is refused.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::json;
use vfabric_api::ident::Label;
use vfabric_api::topology::Switch;

use crate::dhcp::reply::image_of;
use crate::directory::Directory;
use crate::error::ProvisionError;
use crate::image::Images;
use crate::settings::{Ipv6, Settings, Subnet, Subnet6};

/// Files that a switch can fetch, and their templates.
pub const NAMES: [&str; 2] = ["ztp.json", "first-boot.sh"];
/// Most steps of the template library for one file: enough for thousands of lines, but no loop runs for ever.
const FUEL: u64 = 200_000;
/// Largest rendered file, in octets.
const LARGEST: usize = 256 << 10;

const BUILT_IN: [(&str, &str); 2] = [
    ("ztp.json", include_str!("../templates/ztp.json")),
    ("first-boot.sh", include_str!("../templates/first-boot.sh")),
];

/// Texts by which secrets are recognised: keys in PEM, hashes of passwords in the form of crypt(5).
const SECRETS: [(&str, &str); 7] = [
    ("PRIVATE KEY-----", "a private key"),
    ("$1$", "a password hash"),
    ("$5$", "a password hash"),
    ("$6$", "a password hash"),
    ("$y$", "a password hash"),
    ("$2b$", "a password hash"),
    ("$argon2", "a password hash"),
];

/// Renders files.
pub struct Templates {
    directory: Option<PathBuf>,
}

/// The input of a file.
pub struct For<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The inventory.
    pub directory: &'a Directory,
    /// The images.
    pub images: &'a Images,
    /// The switch.
    pub switch: &'a Switch,
    /// The subnet that it is in, if that is known.
    pub subnet: Option<&'a Subnet>,
    /// The IPv6 subnet that the request comes from, if it came over IPv6.
    pub subnet6: Option<(&'a Ipv6, &'a Subnet6)>,
}

impl Templates {
    /// The templates of a directory, and the built-in ones.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// The text of a template and where it is from.
    fn find(&self, name: &str, model: Option<&Label>) -> Result<(String, String), ProvisionError> {
        let model = model.map(Label::as_str).into_iter();
        for folder in model.chain(["default"]) {
            let Some(path) = self.directory.as_deref().map(|d| d.join(folder).join(name)) else {
                continue;
            };
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok((text, path.display().to_string())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(wrong(name, format!("{}: {error}", path.display()))),
            }
        }
        let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
        let (_, text) = built_in.ok_or_else(|| wrong(name, format!("expected one of {}", NAMES.join(", "))))?;
        Ok(((*text).to_owned(), format!("the built-in {name}")))
    }

    /// Renders a file for a switch.
    ///
    /// # Errors
    /// The template is missing, wrong, or uses something that the switch does not have; or the result does not have the form that
    /// its name implies, or contains a secret.
    pub fn render(&self, name: &str, of: &For<'_>) -> Result<String, ProvisionError> {
        let (text, from) = self.find(name, of.switch.model.as_ref())?;
        let environment = environment(self.directory.as_deref());
        let context = of.context().map_err(|why| wrong(name, why))?;
        let rendered = environment.render_named_str(&from, &text, context);
        let rendered = rendered.map_err(|error| wrong(name, explain(&error)))?;
        check(name, &rendered).map_err(|why| wrong(name, format!("{from}: {why}")))?;
        Ok(rendered)
    }
}

fn wrong(name: &str, message: String) -> ProvisionError {
    ProvisionError::Template {
        name: name.to_owned(),
        message,
    }
}

fn environment(directory: Option<&Path>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // This fails only for unusual delimiters, and ours are the defaults.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    if let Some(directory) = directory {
        // Templates may include others of the directory. The loader refuses names that lead out of it.
        let directory = directory.to_owned();
        environment.set_loader(move |name| {
            let inside = name.split('/').all(|part| part.parse::<Label>().is_ok());
            if !inside {
                return Ok(None);
            }
            match std::fs::read_to_string(directory.join(name)) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{name} cannot be read: {error}"),
                )),
            }
        });
    }
    environment
}

/// An error with its place and its causes, on one line.
fn explain(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    // `undefined value (in FILE:LINE)` does not say which value, so add the expression.
    if error.kind() == ErrorKind::UndefinedError
        && let (Some(source), Some(range)) = (error.template_source(), error.range())
        && let Some(expression) = source.get(range)
    {
        text = format!("`{expression}` is not known: {text}");
    }
    text
}

fn check(name: &str, text: &str) -> Result<(), String> {
    if text.len() > LARGEST {
        return Err(format!(
            "it would have {} octets: expected at most {LARGEST}",
            text.len()
        ));
    }
    for (i, line) in text.lines().enumerate() {
        if let Some((_, what)) = SECRETS.iter().find(|(mark, _)| line.contains(mark)) {
            return Err(format!(
                "line {} of the result looks like {what}, and everybody on the network can read this file: secrets are \
                 given after the switch has proven its identity",
                i + 1
            ));
        }
    }
    if name.ends_with(".json") {
        let value: Result<serde_json::Value, _> = serde_json::from_str(text);
        let value = value.map_err(|error| format!("the result is not JSON: {error}"))?;
        if name == "ztp.json" && !value.get("ztp").is_some_and(serde_json::Value::is_object) {
            return Err("the result has no object `ztp`".into());
        }
    }
    if name.ends_with(".sh") && !text.starts_with("#!") {
        return Err("the result does not begin with `#!`".into());
    }
    Ok(())
}

impl For<'_> {
    fn context(&self) -> Result<Value, String> {
        let Self {
            settings,
            directory,
            switch,
            subnet,
            subnet6,
            ..
        } = self;
        let (url, address) = match subnet6 {
            Some((ipv6, subnet)) => (ipv6.url(subnet, settings.http_port), ipv6.address_in(subnet).into()),
            None => (settings.url(*subnet), IpAddr::V4(settings.address_in(*subnet))),
        };
        let https = settings.https.as_ref().map(|https| match address {
            IpAddr::V4(address) => format!("https://{address}:{}", https.port),
            IpAddr::V6(address) => format!("https://[{address}]:{}", https.port),
        });
        let topology = directory.topology();
        let links = topology.map(|t| t.links.as_slice()).unwrap_or_default();
        let ends = links.iter().flat_map(|l| [(&l.a, &l.b), (&l.b, &l.a)]);
        let neighbours: Vec<serde_json::Value> = ends
            .filter(|(own, _)| own.switch == switch.name)
            .map(|(own, peer)| json!({ "port": own.port, "switch": peer.switch, "peer_port": peer.port }))
            .collect();
        let mut context = json!({
            "switch": switch,
            "router_mac": switch.router_mac(),
            "neighbours": neighbours,
            "fabric": { "name": directory.fabric(), "mtu": topology.map(|t| t.fabric.mtu) },
            "server": { "url": url, "address": address },
            "dns": settings.dns,
            "ntp": settings.ntp,
            "vars": settings.vars,
        });
        // Values that a switch does not have are left out, so that a template that uses one fails.
        if let Some(name) = image_of(settings, switch) {
            let sha256 = self.images.listed(name).map_err(|e| e.to_string())?;
            context["image"] = json!({ "name": name, "url": format!("{url}/images/{name}"), "sha256": sha256 });
            if let Some(https) = &https {
                context["image"]["https_url"] = json!(format!("{https}/images/{name}"));
            }
        }
        if let Some(https) = https {
            context["server"]["https_url"] = json!(https);
        }
        if let Some(subnet) = subnet {
            context["subnet"] = json!({ "cidr": subnet.subnet, "routers": subnet.routers });
        }
        if let Some(domain) = &settings.domain {
            context["domain"] = json!(domain);
        }
        Ok(Value::from(Serde(context)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::directory;
    use crate::settings::tests::good;

    struct World {
        dir: tempfile::TempDir,
        settings: Settings,
        directory: Directory,
        images: Images,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            crate::image::tests::add(dir.path(), "nos-1.0-acme.bin", b"image");
            crate::image::tests::add(dir.path(), "nos-1.0.bin", b"other");
            let mut settings = good();
            settings.vars.insert("rack".into(), "r7".into());
            Self {
                images: Images::new(Some(dir.path().to_owned())),
                dir,
                settings,
                directory: directory(),
            }
        }

        fn render(&self, switch: &str, name: &str) -> Result<String, String> {
            let of = For {
                settings: &self.settings,
                directory: &self.directory,
                images: &self.images,
                switch: self.directory.switch(&switch.parse().unwrap()).unwrap(),
                subnet: self.settings.subnets.first(),
                subnet6: None,
            };
            let templates = Templates::new(Some(self.dir.path().join("templates")));
            templates.render(name, &of).map_err(|e| e.to_string())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.dir.path().join("templates").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_built_in_files_fit_every_switch() {
        let world = World::new();
        let ztp: serde_json::Value = serde_json::from_str(&world.render("leaf1", "ztp.json").unwrap()).unwrap();
        assert_eq!(
            ztp["ztp"]["01-firmware"]["install"]["url"],
            "http://192.0.2.1/images/nos-1.0-acme.bin"
        );
        assert_eq!(
            ztp["ztp"]["02-first-boot"]["plugin"]["url"],
            "http://192.0.2.1/ztp/leaf1/first-boot.sh"
        );
        // A switch without software.
        let ztp: serde_json::Value = serde_json::from_str(&world.render("leaf4", "ztp.json").unwrap()).unwrap();
        assert!(ztp["ztp"].get("01-firmware").is_none());
        let script = world.render("leaf4", "first-boot.sh").unwrap();
        assert!(
            script.starts_with("#!/bin/sh\n") && script.contains("hostname leaf4\n"),
            "{script}"
        );
        assert!(script.contains("CUMULUS-AUTOPROVISIONING") && script.ends_with('\n'));
    }

    #[test]
    fn templates_of_the_model_come_first_and_may_include_others() {
        let world = World::new();
        world.write(
            "default/first-boot.sh",
            "#!/bin/sh\n# {{ vars.rack }} {% include 'default/part' %}\n",
        );
        world.write(
            "default/part",
            "{{ neighbours[0].switch }}:{{ neighbours[0].peer_port }}",
        );
        world.write(
            "x86_64-acme_s1-r0/first-boot.sh",
            "#!/bin/sh\n# {{ switch.serial }} {{ image.sha256[:4] }}\n",
        );
        assert_eq!(
            world.render("leaf1", "first-boot.sh").unwrap(),
            "#!/bin/sh\n# AF40 6105\n"
        );
        let error = world.render("leaf3", "first-boot.sh").unwrap_err();
        assert!(
            error.contains("default/first-boot.sh") || error.contains("default/part"),
            "{error}"
        );
        world.write("default/part", "{% include '../../secret' %}");
        assert!(world.render("leaf3", "first-boot.sh").is_err());
    }

    #[test]
    fn what_is_missing_is_named_with_its_line() {
        let world = World::new();
        world.write("default/first-boot.sh", "#!/bin/sh\n\necho {{ switch.serial }}\n");
        let error = world.render("leaf3", "first-boot.sh").unwrap_err();
        assert!(
            error.contains("switch.serial") && error.contains("first-boot.sh:3"),
            "{error}"
        );
        world.write("default/first-boot.sh", "#!/bin/sh\n{{ vars.nothing }}");
        assert!(
            world
                .render("leaf3", "first-boot.sh")
                .unwrap_err()
                .contains("vars.nothing")
        );
        world.write(
            "default/first-boot.sh",
            "#!/bin/sh\n{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        );
        assert!(world.render("leaf3", "first-boot.sh").is_err());
        assert!(
            world
                .render("leaf3", "other")
                .unwrap_err()
                .contains("ztp.json, first-boot.sh")
        );
    }

    #[test]
    fn results_are_what_their_names_say_and_hold_no_secret() {
        let world = World::new();
        for (name, text, word) in [
            ("ztp.json", "{\"ztp\": ", "not JSON"),
            ("ztp.json", "{\"a\": 1}", "`ztp`"),
            ("first-boot.sh", "echo", "#!"),
            (
                "first-boot.sh",
                "#!/bin/sh\n-----BEGIN OPENSSH PRIVATE KEY-----",
                "line 2",
            ),
            (
                "first-boot.sh",
                "#!/bin/sh\nusermod -p '$6$salt$hash' root",
                "password hash",
            ),
            ("first-boot.sh", "#!/bin/sh\n{{ vars.rack }", "first-boot.sh"),
        ] {
            world.write(&format!("default/{name}"), text);
            let error = world.render("leaf3", name).unwrap_err();
            assert!(error.contains(word), "{word} is not in {error}");
        }
    }
}
