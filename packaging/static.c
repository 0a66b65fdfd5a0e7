/* Linked into the static binary in place of two functions of the C library that need a dynamic one. */
#include <string.h>
#include <sys/random.h>

/* Would load the modules that /etc/nsswitch.conf names for look-ups, such as mdns4_minimal and resolve. They belong to
 * the C library of the machine, and a program with another C library in it crashes. Files and DNS need no module. */
void *__wrap___libc_dlopen_mode(const char *name, int mode) {
    (void)name;
    (void)mode;
    return 0;
}

/* Finds nothing in a static program. The crate `getrandom` looks for this function, and would otherwise need
 * /dev/urandom. */
void *__wrap_dlsym(void *handle, const char *name) {
    (void)handle;
    return strcmp(name, "getrandom") == 0 ? (void *)getrandom : 0;
}
