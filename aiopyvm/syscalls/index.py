"""Which family has which calls: `python -m aiopyvm.syscalls.table` writes it, from the families."""

from __future__ import annotations

from typing import Final

NUMBERS: Final[dict[str, tuple[int, ...]]] = {
    "advice": (
        144,  # msync
        150,  # mlock
        151,  # munlock
        152,  # mlockall
        153,  # munlockall
        218,  # mincore
        219,  # madvise
        376,  # mlock2
    ),
    "descriptors": (
        6,  # close
        41,  # dup
        55,  # fcntl
        63,  # dup2
        143,  # flock
        221,  # fcntl64
        330,  # dup3
        436,  # close_range
    ),
    "directories": (
        9,  # link
        10,  # unlink
        12,  # chdir
        14,  # mknod
        38,  # rename
        39,  # mkdir
        40,  # rmdir
        61,  # chroot
        83,  # symlink
        85,  # readlink
        89,  # readdir
        133,  # fchdir
        141,  # getdents
        183,  # getcwd
        220,  # getdents64
        296,  # mkdirat
        297,  # mknodat
        301,  # unlinkat
        302,  # renameat
        303,  # linkat
        304,  # symlinkat
        305,  # readlinkat
        353,  # renameat2
    ),
    "epoll": (
        254,  # epoll_create
        255,  # epoll_ctl
        256,  # epoll_wait
        319,  # epoll_pwait
        329,  # epoll_create1
        441,  # epoll_pwait2
    ),
    "eventfd": (
        321,  # signalfd
        322,  # timerfd_create
        323,  # eventfd
        325,  # timerfd_settime
        326,  # timerfd_gettime
        327,  # signalfd4
        328,  # eventfd2
        410,  # timerfd_gettime64
        411,  # timerfd_settime64
    ),
    "exec": (
        11,  # execve
        358,  # execveat
    ),
    "files": (
        5,  # open
        8,  # creat
        19,  # lseek
        36,  # sync
        60,  # umask
        92,  # truncate
        93,  # ftruncate
        118,  # fsync
        140,  # _llseek
        148,  # fdatasync
        193,  # truncate64
        194,  # ftruncate64
        225,  # readahead
        250,  # fadvise64
        272,  # fadvise64_64
        295,  # openat
        314,  # sync_file_range
        324,  # fallocate
        344,  # syncfs
        356,  # memfd_create
    ),
    "futex": (
        240,  # futex
        422,  # futex_time64
    ),
    "futexv": (
        449,  # futex_waitv
    ),
    "identity": (
        20,  # getpid
        23,  # setuid
        24,  # getuid
        46,  # setgid
        47,  # getgid
        49,  # geteuid
        50,  # getegid
        64,  # getppid
        70,  # setreuid
        71,  # setregid
        80,  # getgroups
        81,  # setgroups
        138,  # setfsuid
        139,  # setfsgid
        164,  # setresuid
        165,  # getresuid
        170,  # setresgid
        171,  # getresgid
        199,  # getuid32
        200,  # getgid32
        201,  # geteuid32
        202,  # getegid32
        203,  # setreuid32
        204,  # setregid32
        205,  # getgroups32
        206,  # setgroups32
        208,  # setresuid32
        209,  # getresuid32
        210,  # setresgid32
        211,  # getresgid32
        213,  # setuid32
        214,  # setgid32
        215,  # setfsuid32
        216,  # setfsgid32
    ),
    "inotify": (
        291,  # inotify_init
        292,  # inotify_add_watch
        293,  # inotify_rm_watch
        332,  # inotify_init1
    ),
    "ioctl": (
        54,  # ioctl
    ),
    "ipc": (
        117,  # ipc
    ),
    "limits": (
        34,  # nice
        75,  # setrlimit
        76,  # getrlimit
        77,  # getrusage
        96,  # getpriority
        97,  # setpriority
        116,  # sysinfo
        154,  # sched_setparam
        155,  # sched_getparam
        156,  # sched_setscheduler
        157,  # sched_getscheduler
        158,  # sched_yield
        159,  # sched_get_priority_max
        160,  # sched_get_priority_min
        161,  # sched_rr_get_interval
        191,  # ugetrlimit
        241,  # sched_setaffinity
        242,  # sched_getaffinity
        318,  # getcpu
        340,  # prlimit64
        423,  # sched_rr_get_interval_time64
    ),
    "machine": (
        59,  # oldolduname
        74,  # sethostname
        109,  # olduname
        121,  # setdomainname
        122,  # uname
        136,  # personality
    ),
    "memory": (
        45,  # brk
        90,  # mmap
        91,  # munmap
        125,  # mprotect
        192,  # mmap2
        380,  # pkey_mprotect
    ),
    "messages": (
        337,  # recvmmsg
        345,  # sendmmsg
        369,  # sendto
        370,  # sendmsg
        371,  # recvfrom
        372,  # recvmsg
        417,  # recvmmsg_time64
    ),
    "mqueue": (
        277,  # mq_open
        278,  # mq_unlink
        279,  # mq_timedsend
        280,  # mq_timedreceive
        281,  # mq_notify
        282,  # mq_getsetattr
        418,  # mq_timedsend_time64
        419,  # mq_timedreceive_time64
    ),
    "msg": (
        399,  # msgget
        400,  # msgsnd
        401,  # msgrcv
        402,  # msgctl
    ),
    "openat2": (
        437,  # openat2
    ),
    "peers": (
        310,  # unshare
        347,  # process_vm_readv
        348,  # process_vm_writev
        349,  # kcmp
        375,  # membarrier
    ),
    "pidfd": (
        424,  # pidfd_send_signal
        434,  # pidfd_open
        438,  # pidfd_getfd
    ),
    "pipes": (
        42,  # pipe
        331,  # pipe2
    ),
    "polling": (
        82,  # select
        142,  # _newselect
        168,  # poll
        308,  # pselect6
        309,  # ppoll
        413,  # pselect6_time64
        414,  # ppoll_time64
    ),
    "prctl": (
        172,  # prctl
        184,  # capget
        185,  # capset
    ),
    "process": (
        0,  # restart_syscall
        1,  # exit
        2,  # fork
        7,  # waitpid
        57,  # setpgid
        65,  # getpgrp
        66,  # setsid
        114,  # wait4
        120,  # clone
        132,  # getpgid
        147,  # getsid
        190,  # vfork
        252,  # exit_group
        284,  # waitid
        435,  # clone3
    ),
    "ptrace": (
        26,  # ptrace
    ),
    "random": (
        355,  # getrandom
    ),
    "refused": (
        17,  # break
        21,  # mount
        22,  # umount
        31,  # stty
        32,  # gtty
        35,  # ftime
        44,  # prof
        51,  # acct
        52,  # umount2
        53,  # lock
        56,  # mpx
        58,  # ulimit
        62,  # ustat
        86,  # uselib
        87,  # swapon
        88,  # reboot
        98,  # profil
        101,  # ioperm
        103,  # syslog
        110,  # iopl
        111,  # vhangup
        112,  # idle
        113,  # vm86old
        115,  # swapoff
        127,  # create_module
        128,  # init_module
        129,  # delete_module
        130,  # get_kernel_syms
        131,  # quotactl
        134,  # bdflush
        135,  # sysfs
        137,  # afs_syscall
        149,  # _sysctl
        166,  # vm86
        167,  # query_module
        169,  # nfsservctl
        188,  # getpmsg
        189,  # putpmsg
        217,  # pivot_root
        245,  # io_setup
        246,  # io_destroy
        247,  # io_getevents
        248,  # io_submit
        249,  # io_cancel
        253,  # lookup_dcookie
        257,  # remap_file_pages
        273,  # vserver
        274,  # mbind
        275,  # get_mempolicy
        276,  # set_mempolicy
        283,  # kexec_load
        286,  # add_key
        287,  # request_key
        288,  # keyctl
        294,  # migrate_pages
        317,  # move_pages
        336,  # perf_event_open
        338,  # fanotify_init
        339,  # fanotify_mark
        341,  # name_to_handle_at
        342,  # open_by_handle_at
        346,  # setns
        350,  # finit_module
        354,  # seccomp
        357,  # bpf
        374,  # userfaultfd
        381,  # pkey_alloc
        382,  # pkey_free
        385,  # io_pgetevents
        416,  # io_pgetevents_time64
        425,  # io_uring_setup
        426,  # io_uring_enter
        427,  # io_uring_register
        428,  # open_tree
        429,  # move_mount
        430,  # fsopen
        431,  # fsconfig
        432,  # fsmount
        433,  # fspick
        440,  # process_madvise
        442,  # mount_setattr
        443,  # quotactl_fd
        444,  # landlock_create_ruleset
        445,  # landlock_add_rule
        446,  # landlock_restrict_self
        447,  # memfd_secret
        448,  # process_mrelease
        450,  # set_mempolicy_home_node
        451,  # cachestat
        453,  # map_shadow_stack
        454,  # futex_wake
        455,  # futex_wait
        456,  # futex_requeue
        457,  # statmount
        458,  # listmount
        459,  # lsm_get_self_attr
        460,  # lsm_set_self_attr
        461,  # lsm_list_modules
        462,  # mseal
    ),
    "remap": (
        163,  # mremap
    ),
    "scheduling": (
        124,  # adjtimex
        289,  # ioprio_set
        290,  # ioprio_get
        343,  # clock_adjtime
        351,  # sched_setattr
        352,  # sched_getattr
        405,  # clock_adjtime64
    ),
    "sem": (
        393,  # semget
        394,  # semctl
        420,  # semtimedop_time64
    ),
    "sendfile": (
        187,  # sendfile
        239,  # sendfile64
        377,  # copy_file_range
    ),
    "shm": (
        395,  # shmget
        396,  # shmctl
        397,  # shmat
        398,  # shmdt
    ),
    "signals": (
        29,  # pause
        37,  # kill
        48,  # signal
        67,  # sigaction
        68,  # sgetmask
        69,  # ssetmask
        72,  # sigsuspend
        73,  # sigpending
        119,  # sigreturn
        126,  # sigprocmask
        173,  # rt_sigreturn
        174,  # rt_sigaction
        175,  # rt_sigprocmask
        176,  # rt_sigpending
        177,  # rt_sigtimedwait
        178,  # rt_sigqueueinfo
        179,  # rt_sigsuspend
        186,  # sigaltstack
        238,  # tkill
        270,  # tgkill
        335,  # rt_tgsigqueueinfo
        421,  # rt_sigtimedwait_time64
    ),
    "socketcall": (
        102,  # socketcall
    ),
    "sockets": (
        359,  # socket
        360,  # socketpair
        361,  # bind
        362,  # connect
        363,  # listen
        364,  # accept4
        365,  # getsockopt
        366,  # setsockopt
        367,  # getsockname
        368,  # getpeername
        373,  # shutdown
    ),
    "splice": (
        313,  # splice
        315,  # tee
        316,  # vmsplice
    ),
    "stat": (
        15,  # chmod
        16,  # lchown
        18,  # oldstat
        28,  # oldfstat
        30,  # utime
        33,  # access
        84,  # oldlstat
        94,  # fchmod
        95,  # fchown
        99,  # statfs
        100,  # fstatfs
        106,  # stat
        107,  # lstat
        108,  # fstat
        182,  # chown
        195,  # stat64
        196,  # lstat64
        197,  # fstat64
        198,  # lchown32
        207,  # fchown32
        212,  # chown32
        268,  # statfs64
        269,  # fstatfs64
        271,  # utimes
        298,  # fchownat
        299,  # futimesat
        300,  # fstatat64
        306,  # fchmodat
        307,  # faccessat
        320,  # utimensat
        383,  # statx
        412,  # utimensat_time64
        439,  # faccessat2
        452,  # fchmodat2
    ),
    "threads": (
        123,  # modify_ldt
        224,  # gettid
        243,  # set_thread_area
        244,  # get_thread_area
        258,  # set_tid_address
        311,  # set_robust_list
        312,  # get_robust_list
        384,  # arch_prctl
        386,  # rseq
    ),
    "time": (
        13,  # time
        25,  # stime
        27,  # alarm
        43,  # times
        78,  # gettimeofday
        79,  # settimeofday
        104,  # setitimer
        105,  # getitimer
        162,  # nanosleep
        264,  # clock_settime
        265,  # clock_gettime
        266,  # clock_getres
        267,  # clock_nanosleep
        403,  # clock_gettime64
        404,  # clock_settime64
        406,  # clock_getres_time64
        407,  # clock_nanosleep_time64
    ),
    "timers": (
        259,  # timer_create
        260,  # timer_settime
        261,  # timer_gettime
        262,  # timer_getoverrun
        263,  # timer_delete
        408,  # timer_gettime64
        409,  # timer_settime64
    ),
    "transfer": (
        3,  # read
        4,  # write
        145,  # readv
        146,  # writev
        180,  # pread64
        181,  # pwrite64
        333,  # preadv
        334,  # pwritev
        378,  # preadv2
        379,  # pwritev2
    ),
    "xattr": (
        226,  # setxattr
        227,  # lsetxattr
        228,  # fsetxattr
        229,  # getxattr
        230,  # lgetxattr
        231,  # fgetxattr
        232,  # listxattr
        233,  # llistxattr
        234,  # flistxattr
        235,  # removexattr
        236,  # lremovexattr
        237,  # fremovexattr
    ),
}
FAMILY: Final = {number: family for family, numbers in NUMBERS.items() for number in numbers}
