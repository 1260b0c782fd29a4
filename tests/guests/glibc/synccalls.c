#include "calls.h"
#define SFR(fd, o, n, f) (errno = 0, show("sync_file_range(" #fd ", " #o ", " #n ", " #f ")", syscall(SYS_sync_file_range, fd, (long)((o) & 0xffffffff), (long)((long long)(o) >> 32), (long)((n) & 0xffffffff), (long)((long long)(n) >> 32), f)))
int main(void){ begin();
 int fd=open("f",O_RDWR|O_CREAT,0600), d=open(".",O_RDONLY), p[2], path=open("f",O_PATH), ro=open("f",O_RDONLY), wo=open("f",O_WRONLY); pipe(p);
 SFR(fd,0LL,0LL,0); SFR(fd,0LL,0LL,7); SFR(fd,0LL,0LL,8); SFR(fd,0LL,0LL,-1); SFR(fd,-1LL,0LL,0); SFR(fd,0LL,-1LL,0); SFR(fd,0x7fffffffffffffffLL,0LL,0); SFR(fd,0x7fffffffffffffffLL,1LL,0); SFR(fd,0x7ffffffffffff000LL,0xfffLL,0);
 SFR(fd,1LL,0x7fffffffffffffffLL,0); SFR(fd,0x100000000LL,5LL,2); SFR(fd,0xffffffffffffLL,5LL,2);
 SFR(d,0LL,0LL,0); SFR(d,0LL,0LL,2);SFR(d,-1LL,0LL,2); SFR(p[0],0LL,0LL,0); SFR(p[0],0LL,0LL,2); SFR(p[0],0LL,0LL,8); SFR(p[1],-1LL,0LL,0); SFR(99,0LL,0LL,0); SFR(99,0LL,0LL,8); SFR(path,0LL,0LL,0); SFR(path,0LL,0LL,9); SFR(ro,0LL,0LL,7); SFR(wo,0LL,0LL,7);
 int n=open("/dev/null",O_RDWR); SFR(n,0LL,0LL,0); SFR(n,0LL,0LL,2); SFR(n,-1LL,0LL,2);
 int m=memfd_create("x",0); SFR(m,0LL,0LL,0); SFR(m,0LL,0LL,7); int s=open("/proc/self/stat",O_RDONLY); SFR(s,0LL,0LL,0); SFR(s,0LL,0LL,2);
 R(fsync(d)); R(fsync(p[0])); R(fsync(n)); R(fsync(s)); R(fdatasync(m)); R(fdatasync(path)); R(syncfs(p[0])); R(syncfs(path)); 
 return 0; }
