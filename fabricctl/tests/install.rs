//! The commands of `docs/install.md`, run exactly as written, with the package's settings and its user. Needs root.
//!
//! There is no systemd in the namespaces of a test: a script of a few lines starts, stops and reloads the controller as its
//! unit does. Units and packages are tested by `xtask/tests/packages.rs`.

mod page;

use std::path::Path;

/// A temporary `/etc` and state directory, the package's user and settings, and a substitute for systemd.
const MACHINE: &str = r#"
mkdir /run/etc && cp -a /etc/. /run/etc/ && mount --bind /run/etc /etc
mount -t tmpfs tmpfs /var/lib && mkdir -m 0700 /var/lib/fabric-controller /etc/fabric-controller
id fabric-controller || useradd --system --no-create-home --home-dir /var/lib/fabric-controller fabric-controller
chown fabric-controller /var/lib/fabric-controller /etc/fabric-controller
cp "$PACKAGING/conf" /etc/fabric-controller/fabric-controller.conf
# The user must reach the program.
mkdir /run/bin && cp "$PROGRAMS/fabric-controller" /run/bin/ && export PATH=/run/bin:$PATH
cat > /run/bin/systemctl <<'END'
#!/bin/sh
set -eu
[ "$2" = fabric-controller ]
. /etc/fabric-controller/fabric-controller.conf
case $1 in
  start)
    : > /run/log
    setpriv --reuid fabric-controller --regid fabric-controller --clear-groups \
      sh -fc 'umask 077; echo $$ > /var/lib/fabric-controller/pid; exec fabric-controller $0' "$OPTIONS" 2> /run/log &
    timeout 60 sh -c 'until grep -q serving /run/log; do kill -0 '$!' && sleep 0.1; done' || { cat /run/log; exit 1; } ;;
  stop) pid=$(cat /var/lib/fabric-controller/pid); kill "$pid"; while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done ;;
  reload) kill -HUP "$(cat /var/lib/fabric-controller/pid)" ;;
  *) exit 1 ;;
esac
END
chmod 0755 /run/bin/systemctl
"#;

#[test]
fn every_command_of_the_installation_does_what_it_says() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fabric-controller");
    let prepare = format!("export PACKAGING={}\n{MACHINE}", packaging.display());
    let said = page::run("install.md", &prepare);
    for words in [
        "ada   certificate",
        "monitoring  token ",
        "boss  vdc-admin=acme",
        "no difference",
        "web   10000",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
