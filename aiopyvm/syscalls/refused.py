"""Calls that are refused on purpose, each with the error that a locked-down Linux gives, and the reason.

EPERM is for what an unprivileged program may not do on any Linux; ENOSYS for what a kernel can be built without, so
that programs fall back to what they did before the call came.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.abi.errno import EINVAL, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM
from aiopyvm.abi.numbers import NAMES
from aiopyvm.syscalls.spec import refuse

_NEVER: Final = "no Linux of today has it"
_MOUNTS: Final = "the tree is what the caller of the machine made it"
_HARDWARE: Final = "there is no hardware to reach; a kernel without CONFIG_X86_IOPL_IOPERM"
_MODULES: Final = "there is no kernel to load code into"
_MACHINE: Final = "the machine is the runtime's to run and to end"
_NUMA: Final = "memory is one node; a kernel without NUMA"
_KEYS: Final = "no key rings; a kernel without CONFIG_KEYS"
_AIO: Final = "no asynchronous I/O; a kernel without CONFIG_AIO"
_URING: Final = "io_uring is refused: work that no system call bounds"
_LSM: Final = "no security modules"
_SPY: Final = "the kernel's own events are not the guests' to see"

# By error: the reason for each call.
_REASONS: Final[dict[int, dict[str, str]]] = {
    ENOSYS: {
        **dict.fromkeys(
            "break stty gtty ftime prof lock mpx ulimit profil idle create_module get_kernel_syms bdflush afs_syscall "
            "_sysctl query_module nfsservctl getpmsg putpmsg vserver lookup_dcookie sysfs uselib".split(),
            _NEVER,
        ),
        **dict.fromkeys(("ioperm", "iopl"), _HARDWARE),
        **dict.fromkeys(("vm86old", "vm86"), "no virtual 8086 mode, as under a 64-bit kernel"),
        **dict.fromkeys("io_setup io_destroy io_getevents io_submit io_cancel".split(), _AIO),
        **dict.fromkeys(("io_pgetevents", "io_pgetevents_time64"), _AIO),
        **dict.fromkeys(("io_uring_setup", "io_uring_enter", "io_uring_register"), _URING),
        **dict.fromkeys("mbind get_mempolicy set_mempolicy migrate_pages move_pages".split(), _NUMA),
        "set_mempolicy_home_node": _NUMA,
        **dict.fromkeys(("add_key", "request_key", "keyctl"), _KEYS),
        **dict.fromkeys(("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"), _LSM),
        **dict.fromkeys(("lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules"), _LSM),
        "seccomp": "no filters; a kernel without CONFIG_SECCOMP",
        "remap_file_pages": "deprecated since Linux 3.16: map the pages one by one",
        "quotactl": "no quotas; a kernel without CONFIG_QUOTA",
        "quotactl_fd": "no quotas; a kernel without CONFIG_QUOTA",
        "memfd_secret": "nothing is secret from the machine's owner",
        "map_shadow_stack": "no processor of ours has shadow stacks",
        **dict.fromkeys(("open_tree", "statmount", "listmount"), _MOUNTS),
        **dict.fromkeys(("process_madvise", "process_mrelease", "cachestat", "mseal"), "advice; nobody needs it yet"),
        **dict.fromkeys(("futex_wake", "futex_wait", "futex_requeue"), "of Linux 6.7; libraries use futex(2)"),
    },
    EPERM: {
        **dict.fromkeys("mount umount umount2 pivot_root move_mount fsopen fsconfig fsmount fspick".split(), _MOUNTS),
        "mount_setattr": _MOUNTS,
        "setns": "no namespaces to enter",
        **dict.fromkeys(("swapon", "swapoff", "reboot", "kexec_load", "acct", "vhangup", "syslog"), _MACHINE),
        **dict.fromkeys(("init_module", "delete_module", "finit_module", "bpf"), _MODULES),
        **dict.fromkeys(("perf_event_open", "fanotify_init", "fanotify_mark", "userfaultfd"), _SPY),
        "open_by_handle_at": "files are opened by their paths",
    },
    EOPNOTSUPP: {"name_to_handle_at": "no file system here has handles"},
    ENOSPC: {"pkey_alloc": "no processor of ours has protection keys"},
    EINVAL: {"pkey_free": "no processor of ours has protection keys", "ustat": "no device is known to it"},
}

_NUMBERS: Final = {name: number for number, name in NAMES.items()}

for _error, _calls in _REASONS.items():
    for _name, _reason in _calls.items():
        refuse(_NUMBERS[_name], _name, _error, _reason, man="unimplemented(2)" if _reason is _NEVER else f"{_name}(2)")
