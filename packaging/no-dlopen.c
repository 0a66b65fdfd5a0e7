/* Linked into the static binary in place of the C library's own loader of modules. That loader would load the modules
 * that /etc/nsswitch.conf names for look-ups, such as mdns4_minimal and resolve. They belong to the C library of the
 * machine, and a program with another C library in it crashes. Files and DNS need no module. */
void *__wrap___libc_dlopen_mode(const char *name, int mode) {
    (void)name;
    (void)mode;
    return 0;
}
