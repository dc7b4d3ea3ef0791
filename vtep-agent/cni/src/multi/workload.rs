//! The identity of the workload in a pod, by which a pod on another host takes its attachments over.

use super::catalog::Pod;

/// Annotation that names the workload, for pods of any kind.
pub const ANNOTATION: &str = "vfabric.io/workload";
/// Label by which KubeVirt names the role of a pod.
const ROLE: &str = "kubevirt.io";
/// The role of pods that run virtual machines.
const LAUNCHER: &str = "virt-launcher";
/// Label of such pods with the UID of the VirtualMachineInstance. The pods at both ends of a migration have the same. It is random, and
/// another one each time that the machine starts.
const CREATED_BY: &str = "kubevirt.io/created-by";

/// The identity of the workload in a pod; none if the pod does not say, and so stays on its host.
pub fn of(pod: &Pod) -> Option<&str> {
    let of_machine = || {
        let is_launcher = pod.labels.get(ROLE).is_some_and(|role| role == LAUNCHER);
        pod.labels.get(CREATED_BY).filter(|_| is_launcher)
    };
    let named = pod.annotations.get(ANNOTATION).or_else(of_machine)?;
    Some(named.as_str()).filter(|named| !named.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Pod {
        let map = |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Pod {
            labels: map(labels),
            annotations: map(annotations),
            ..Pod::default()
        }
    }

    #[test]
    fn a_virtual_machine_is_known_by_the_uid_of_its_instance() {
        let uid = "3f1b7c1e-9f0d-4a57-8b0a-2f8d3c0d6c11";
        let launcher = [(ROLE, LAUNCHER), (CREATED_BY, uid), ("vm.kubevirt.io/name", "vm1")];
        let target = [
            launcher[0],
            launcher[1],
            launcher[2],
            ("kubevirt.io/migrationJobUID", "j1"),
        ];
        assert_eq!(of(&pod(&launcher, &[])), Some(uid));
        assert_eq!(of(&pod(&target, &[])), Some(uid));
        // Pods that help a launcher are no machines, and names may come again.
        assert_eq!(of(&pod(&[(ROLE, "hotplug-disk"), (CREATED_BY, uid)], &[])), None);
        assert_eq!(of(&pod(&[("vm.kubevirt.io/name", "vm1")], &[])), None);
        assert_eq!(of(&pod(&launcher, &[(ANNOTATION, "own")])), Some("own"));
        assert_eq!(of(&pod(&launcher, &[(ANNOTATION, "")])), None);
    }
}
