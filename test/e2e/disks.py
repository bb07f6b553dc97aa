"""Small disks that boot and print a line on COM1, made here: by BIOS and by UEFI."""
import struct
import subprocess

MIB = 1 << 20


def boot_sector(text):
    """512 bytes of real-mode code that write 'text' to port 0x3f8."""
    code = bytes([
        0x31, 0xC0, 0x8E, 0xD8, 0xFC,        # ds = 0
        0xBE, 34, 0x7C,                      # si = the text, at 0x7c00 + 34
        0xAC, 0x84, 0xC0, 0x74, 0x12,        # next byte; 0: done
        0x88, 0xC4, 0xBA, 0xFD, 0x03,        # wait until the port takes one
        0xEC, 0xA8, 0x20, 0x74, 0xFB,
        0x88, 0xE0, 0xBA, 0xF8, 0x03, 0xEE,  # out
        0xEB, 0xE9,
        0xF4, 0xEB, 0xFD])                   # done: hlt, for ever
    sector = code + text.encode() + b"\0"
    return sector.ljust(510, b"\0") + b"\x55\xaa"


def bios_disk(path, text):
    with open(path, "wb") as disk:
        disk.write(boot_sector(text))
        disk.truncate(2 * MIB)
    return path


def efi_program(text):
    """A PE32+ program with one section, which does the same in 64 bits."""
    code = bytes([
        0xFC, 0x48, 0x8D, 0x35, 28, 0, 0, 0,       # rsi = the text, 28 bytes after this
        0xAC, 0x84, 0xC0, 0x74, 0x14,
        0x88, 0xC4, 0x66, 0xBA, 0xFD, 0x03,
        0xEC, 0xA8, 0x20, 0x74, 0xFB,
        0x88, 0xE0, 0x66, 0xBA, 0xF8, 0x03, 0xEE,
        0xEB, 0xE7,
        0xF4, 0xEB, 0xFD]) + text.encode() + b"\0"
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    file_header = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x22)
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII", 0x20B, 0, 0, 0x200, 0, 0, 0x1000, 0x1000,
        0x400000, 0x1000, 0x200, 0, 0, 0, 0, 0, 0, 0, 0x2000, 0x200, 0, 10, 0,
        0x10000, 0x10000, 0x10000, 0x10000, 0, 16).ljust(240, b"\0")
    section = struct.pack("<8sIIIIIIHHI", b".text", len(code), 0x1000, 0x200, 0x200, 0, 0, 0,
                          0, 0x60000020)
    head = (dos + file_header + optional + section).ljust(0x200, b"\0")
    return head + code.ljust(0x200, b"\0")


def uefi_disk(path, text):
    """A GPT with an EFI system partition that holds \\EFI\\BOOT\\BOOTX64.EFI."""
    program = path.with_suffix(".efi")
    program.write_bytes(efi_program(text))
    with open(path, "wb") as disk:
        disk.truncate(40 * MIB)
    run("sfdisk", "-q", path, input="label: gpt\nstart=2048, size=75776, type=U\n")
    at = f"{path}@@{2048 * 512}"
    run("mformat", "-i", at, "-F", "-T", "75776", "-h", "64", "-s", "32", "::")
    run("mmd", "-i", at, "::/EFI", "::/EFI/BOOT")
    run("mcopy", "-i", at, program, "::/EFI/BOOT/BOOTX64.EFI")
    return path


def run(*words, **how):
    subprocess.run([str(w) for w in words], check=True, text=True, capture_output=True, **how)
