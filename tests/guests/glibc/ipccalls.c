/* System V IPC, by ipc(2) as the library makes it and by the direct calls: shared memory, semaphores, messages. */
#include "calls.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static int key;

static void shared_memory(void)
{
    struct shmid_ds ds;
    int id = shmget(IPC_PRIVATE, 5000, 0600), other;
    R(shmget(key, 100, 0600));
    R(shmget(IPC_PRIVATE, 0, 0600));
    other = shmget(key, 4096, IPC_CREAT | 0640);
    R(other >= 0);
    R(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0640));
    R(shmget(key, 0, 0) == other);
    R(shmget(key, 5000, 0));
    R(shmget(key, 0, 0777));
    R(shmctl(id, IPC_STAT, &ds));
    R(ds.shm_segsz), R(ds.shm_nattch), R(ds.shm_perm.mode), R(ds.shm_perm.uid), R(ds.shm_cpid == getpid());
    R(ds.shm_lpid), R(ds.shm_atime), R(ds.shm_ctime > 0), R(ds.shm_perm.__key);
    R(shmctl(other, IPC_STAT, &ds));
    R(ds.shm_perm.__key == key);
    R(shmctl(id, 99, &ds));
    R(shmctl(-1, IPC_STAT, &ds));
    R(shmctl(0x7ffffff, IPC_STAT, &ds));
    R(syscall(396, id, IPC_STAT, 16));
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    R(a != b && a != (void *)-1 && b != (void *)-1);
    strcpy(a, "shared");
    printf("%s\n", b);
    R(shmctl(id, IPC_STAT, &ds));
    R(ds.shm_nattch), R(ds.shm_lpid == getpid()), R(ds.shm_atime > 0);
    R((long)shmat(id, a + 100, 0));
    R((long)shmat(id, a, 0));
    char *place = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    R((long)shmat(id, place + 4096 + 100, SHM_RND));
    R((long)shmat(id, place + 4096 + 100, SHM_RND | SHM_REMAP) == (long)place + 4096);
    printf("%s\n", place + 4096);
    R((long)shmat(-1, NULL, 0));
    R(shmdt(a + 1));
    R(shmdt(buffer));
    R(shmdt(place + 4096));
    pid_t pid = fork();
    if (!pid) {
        shmctl(id, IPC_STAT, &ds);
        R(ds.shm_nattch);
        strcpy(a, "from the child");
        _exit(0);
    }
    ended(pid);
    printf("%s\n", b);
    ds.shm_perm.mode = 0400;
    R(shmctl(id, IPC_SET, &ds));
    R(shmctl(id, IPC_STAT, &ds));
    R(ds.shm_perm.mode);
    R((long)shmat(id, NULL, 0));
    R(syscall(396, id, IPC_SET, 16));
    R(shmctl(id, IPC_RMID, NULL));
    R(shmctl(id, IPC_STAT, &ds));
    R(ds.shm_perm.mode), R(ds.shm_nattch);
    R(shmdt(b));
    R(shmdt(a));
    R(shmctl(id, IPC_STAT, &ds) < 0);
    R(shmdt(a));
    R(syscall(395, key, 0, 0) == other);
    a = (char *)syscall(397, other, NULL, 0);
    R(a != (char *)-1);
    a[4095] = 1;
    R(syscall(398, a));
    R(syscall(396, other, IPC_STAT, buffer));
    R(syscall(396, other, IPC_STAT | 0x100, buffer));
    R(syscall(396, other, IPC_RMID, NULL));
    R(shmget(key, 0, 0));
    R(syscall(117, 99, 0, 0, 0, 0, 0));
    R(syscall(117, 1 << 16 | 21, 0, 0, 0, 0, 0));
}

static int op(int id, int n, int num1, int op1, int num2, int op2, int flags)
{
    struct sembuf ops[2] = {{num1, op1, flags}, {num2, op2, flags}};
    return semop(id, ops, n);
}

static void semaphores(void)
{
    struct semid_ds ds;
    unsigned short values[3] = {1, 2, 3};
    int id = semget(key, 3, IPC_CREAT | 0600);
    R(semget(IPC_PRIVATE, 0, 0600));
    R(semget(IPC_PRIVATE, -1, 0600));
    R(semget(key, 4, 0));
    R(semget(key, 0, 0) == id);
    R(semget(key, 3, IPC_CREAT | IPC_EXCL));
    R(semctl(id, 0, GETVAL));
    R(semctl(id, 0, SETVAL, 5));
    R(semctl(id, 0, GETVAL));
    R(semctl(id, 0, SETVAL, 32768));
    R(semctl(id, 0, SETVAL, -1));
    R(semctl(id, 3, GETVAL));
    R(semctl(id, -1, GETVAL));
    R(semctl(id, 0, 99));
    R(semctl(-1, 0, GETVAL));
    R(semctl(id, 0, SETALL, values));
    memset(values, 0, sizeof values);
    R(semctl(id, 0, GETALL, values));
    R(values[2]);
    R(semctl(id, 0, GETALL, 16));
    R(semctl(id, 0, IPC_STAT, &ds));
    R(ds.sem_nsems), R(ds.sem_otime), R(ds.sem_perm.mode);
    R(op(id, 2, 0, -1, 1, 1, 0));
    R(semctl(id, 0, GETVAL)), R(semctl(id, 1, GETVAL)), R(semctl(id, 0, GETPID) == getpid());
    R(semctl(id, 0, IPC_STAT, &ds));
    R(ds.sem_otime > 0);
    R(op(id, 2, 1, -1, 0, -1, IPC_NOWAIT));
    R(semctl(id, 1, GETVAL));
    R(op(id, 1, 0, 0, 0, 0, IPC_NOWAIT));
    R(op(id, 1, 1, 0, 0, 0, IPC_NOWAIT));
    R(op(id, 1, 3, 1, 0, 0, 0));
    R(op(id, 1, 0, 32767, 0, 0, 0));
    R(op(id, 1, 0, 1, 0, 0, 0));
    R(semctl(id, 0, SETVAL, 0));
    R(op(id, 0, 0, 1, 0, 0, 0));
    R(semop(id, NULL, 501));
    R(semop(id, NULL, 1));
    R(op(-1, 1, 0, 1, 0, 0, 0));
    R(op(0x7ffffff, 1, 0, 1, 0, 0, 0));
    pid_t pid = fork();
    if (!pid) {
        op(id, 1, 2, 4, 0, 0, SEM_UNDO);
        R(semctl(id, 2, GETVAL));
        _exit(0);
    }
    ended(pid);
    R(semctl(id, 2, GETVAL));
    pid = LATER(50, (R(semctl(id, 0, GETNCNT)), R(semctl(id, 0, GETZCNT)), op(id, 1, 0, 2, 0, 0, 0)));
    R(op(id, 1, 0, -2, 0, 0, 0));
    ended(pid);
    R(semctl(id, 0, GETPID) == getpid());
    struct timespec brief = {0, 20000000};
    struct sembuf wanted = {0, -1, 0};
    R(semtimedop(id, &wanted, 1, &brief));
    R(syscall(420, id, &wanted, 1, &(long long[2]){0, 10000000}));
    R(syscall(420, id, &wanted, 1, &(long long[2]){0, 1000000000}));
    R(syscall(420, id, &wanted, 1, 16));
    wanted.sem_op = 1;
    R(syscall(420, id, &wanted, 1, NULL));
    wanted.sem_op = -2;
    pid_t me = getpid();
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on(SIGUSR1, flags);
        pid = LATER(30, kill(me, SIGUSR1));
        R(semop(id, &wanted, 1));
        ended(pid);
    }
    ds.sem_perm.mode = 0200;
    R(semctl(id, 0, IPC_SET, &ds));
    R(semctl(id, 0, GETVAL));
    R(op(id, 1, 0, 0, 0, 0, IPC_NOWAIT));
    R(semctl(id, 0, SETVAL, 1));
    pid = LATER(50, semctl(id, 0, IPC_RMID));
    R(op(id, 1, 0, -9, 0, 0, 0));
    ended(pid);
    R(semctl(id, 0, GETVAL) < 0);
    R(semget(key, 0, 0));
    id = syscall(393, IPC_PRIVATE, 2, 0600);
    R(syscall(394, id, 1, SETVAL, 7));
    R(syscall(394, id, 1, GETVAL, 0));
    R(syscall(394, id, 1, GETVAL | 0x100, 0));
    R(syscall(394, id, 0, IPC_RMID, 0));
}

struct text {
    long type;
    char text[100];
};

static void messages(void)
{
    struct msqid_ds ds;
    struct text m = {3, "three"}, got;
    int id = msgget(key, IPC_CREAT | 0600);
    R(msgget(key, 0) == id);
    R(msgget(key, IPC_CREAT | IPC_EXCL));
    R(msgget(key + 1, 0));
    R(msgsnd(id, &m, 5, 0));
    m.type = 1, strcpy(m.text, "one");
    R(msgsnd(id, &m, 3, 0));
    m.type = 2, strcpy(m.text, "two");
    R(msgsnd(id, &m, 3, 0));
    R(msgsnd(id, &m, 0, 0));
    m.type = 0;
    R(msgsnd(id, &m, 3, 0));
    m.type = 4;
    R(msgsnd(id, &m, -1, 0));
    R(msgsnd(id, &m, 8193, 0));
    R(msgsnd(-1, &m, 1, 0));
    R(msgsnd(id, (void *)16, 1, 0));
    R(msgctl(id, IPC_STAT, &ds));
    R(ds.msg_qnum), R(ds.__msg_cbytes), R(ds.msg_qbytes), R(ds.msg_lspid == getpid()), R(ds.msg_lrpid);
    R(ds.msg_stime > 0), R(ds.msg_rtime), R(ds.msg_perm.mode);
    R(msgrcv(id, &got, 2, 0, 0));
    R(msgrcv(id, &got, 2, 0, MSG_NOERROR));
    R(got.type);
    printf("%.2s\n", got.text);
    R(msgrcv(id, &got, 100, 9, IPC_NOWAIT));
    R(msgrcv(id, &got, 100, -2, 0));
    R(got.type);
    R(msgrcv(id, &got, 100, 2, MSG_EXCEPT | IPC_NOWAIT));
    R(msgrcv(id, &got, 100, 2, 0));
    R(msgrcv(id, &got, 100, -9, 0));
    R(got.type);
    R(msgrcv(id, &got, 100, 0, IPC_NOWAIT));
    R(msgrcv(id, &got, -1, 0, IPC_NOWAIT));
    R(msgrcv(-1, &got, 1, 0, IPC_NOWAIT));
    R(msgctl(id, IPC_STAT, &ds));
    R(ds.msg_qnum), R(ds.msg_lrpid == getpid()), R(ds.msg_rtime > 0);
    pid_t pid = LATER(30, (m.type = 6, msgsnd(id, &m, 3, 0)));
    R(msgrcv(id, &got, 100, 6, 0));
    ended(pid);
    pid_t me = getpid();
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on(SIGUSR1, flags);
        pid = LATER(30, kill(me, SIGUSR1));
        R(msgrcv(id, &got, 100, 6, 0));
        ended(pid);
    }
    *(long *)big = 1;
    R(msgsnd(id, big, 8192, 0)), R(msgsnd(id, big, 8192, 0));
    R(msgsnd(id, &m, 1, IPC_NOWAIT));
    pid = LATER(30, msgrcv(id, big, 8192, 0, 0));
    R(msgsnd(id, &m, 1, 0));
    ended(pid);
    R(msgctl(id, IPC_STAT, &ds));
    R(ds.msg_qnum), R(ds.__msg_cbytes);
    ds.msg_qbytes = 100, ds.msg_perm.mode = 0200;
    R(msgctl(id, IPC_SET, &ds));
    R(msgsnd(id, &m, 1, IPC_NOWAIT));
    R(msgrcv(id, &got, 1, 0, IPC_NOWAIT));
    R(msgctl(id, IPC_STAT, &ds));
    ds.msg_qbytes = 1 << 20, ds.msg_perm.mode = 0600;
    R(msgctl(id, IPC_SET, &ds));
    R(msgctl(id, 77, &ds));
    pid = LATER(30, msgctl(id, IPC_RMID, NULL));
    R(msgsnd(id, big, 8192, 0) < 0 && errno == EIDRM);
    ended(pid);
    R(msgctl(id, IPC_RMID, NULL) < 0);
    id = syscall(399, IPC_PRIVATE, 0600);
    m.type = 5;
    R(syscall(400, id, &m, 4, 0));
    R(syscall(401, id, &got, 100, 5, 0));
    R(syscall(402, id, IPC_RMID, NULL));
}

/* Places in the tables and limits are the machine's own: only what goes round is shown. */
static void lists(void)
{
    struct shmid_ds shm;
    struct semid_ds sem;
    struct msqid_ds msg;
    int a = shmget(IPC_PRIVATE, 4096, 0600), b = semget(IPC_PRIVATE, 2, 0600), c = msgget(IPC_PRIVATE, 0600), found = 0;
    int high = shmctl(0, SHM_INFO, &shm);
    R(high >= 0 && shmctl(0, IPC_INFO, &shm) == high);
    for (int i = 0; i <= high; i++)
        found += shmctl(i, SHM_STAT, &shm) == a && shm.shm_segsz == 4096;
    high = semctl(0, 0, SEM_INFO, buffer);
    R(high >= 0 && semctl(0, 0, IPC_INFO, buffer) == high);
    for (int i = 0; i <= high; i++)
        found += semctl(i, 0, SEM_STAT, &sem) == b && sem.sem_nsems == 2;
    high = msgctl(0, MSG_INFO, (void *)buffer);
    R(high >= 0 && msgctl(0, IPC_INFO, (void *)buffer) == high);
    for (int i = 0; i <= high; i++)
        found += msgctl(i, MSG_STAT, &msg) == c && msg.msg_qbytes == 16384;
    R(found);
    R(shmctl(32000, SHM_STAT, &shm)), R(semctl(31999, 0, SEM_STAT, &sem)), R(msgctl(31999, MSG_STAT, &msg));
    R(shmctl(a, IPC_RMID, NULL)), R(semctl(b, 0, IPC_RMID)), R(msgctl(c, IPC_RMID, NULL));
}

int main(void)
{
    begin();
    key = 0x41000000 + (getpid() & 0xffffff);
    shared_memory();
    semaphores();
    messages();
    lists();
    return 0;
}
