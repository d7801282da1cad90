#!/bin/sh
# Installs what is missing to build Tailor; with everything present it does nothing and needs no root.
#   scripts/setup.sh run     what `make` and `make chat` need
#   scripts/setup.sh test    that, and what `make test` needs
# It looks at what works (a program that compiles, links and finds its header), not at package lists.
# Debian and Ubuntu: apt-get, through sudo when not root. Elsewhere: prints what to install, exit 1.
set -u
mode=${1:-run}
case $mode in
run | test) ;;
*) echo "usage: scripts/setup.sh run|test" >&2; exit 2 ;;
esac

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

have() { command -v "$1" >/dev/null 2>&1; }

# links COMPILER LANGUAGE SOURCE [FLAG...]: does this program compile and link?
links() {
    compiler=$1 language=$2 source=$3
    shift 3
    printf '%b\n' "$source" >"$scratch/try.$language"
    "$compiler" "$scratch/try.$language" -o "$scratch/try" "$@" >/dev/null 2>&1
}

# library PKG-CONFIG-NAME SOURCE: is it there with its header?
library() {
    flags=$(pkg-config --cflags --libs "$1" 2>/dev/null) || return 1
    # shellcheck disable=SC2086 # the flags are words
    links "${CC:-cc}" c "$2" $flags
}

cmake_new_enough() {
    cmake --version 2>/dev/null |
        awk 'NR == 1 { split($3, v, "."); ok = v[1] > 3 || (v[1] == 3 && v[2] >= 25) } END { exit !ok }'
}

any_file() {
    for file in "$@"; do
        [ -e "$file" ] && return 0
    done
    return 1
}

# want WHAT APT DNF PACMAN BREW CHECK...: notes the packages of whatever fails its check.
want() {
    what=$1 apt=$2 dnf=$3 pacman=$4 brew=$5
    shift 5
    "$@" && return 0
    missing="$missing, $what"
    apt_packages="$apt_packages $apt" dnf_packages="$dnf_packages $dnf"
    pacman_packages="$pacman_packages $pacman" brew_packages="$brew_packages $brew"
}

main_c='int main(void) { return 0; }'
fuzz_c='#include <stddef.h>\nint LLVMFuzzerTestOneInput(const unsigned char *d, size_t n);\nint LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return (int)n * (d == 0); }'

look_for_run() {
    want 'C compiler' build-essential gcc gcc gcc links "${CC:-cc}" c "$main_c"
    want 'cmake 3.25' cmake cmake cmake cmake cmake_new_enough
    want ninja ninja-build ninja-build ninja ninja have ninja
    want pkg-config pkg-config pkgconf pkgconf pkgconf have pkg-config
    want PCRE2 libpcre2-dev pcre2-devel pcre2 pcre2 library libpcre2-8 \
        '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <pcre2.h>\nint main(void) { return !pcre2_config(PCRE2_CONFIG_UNICODE, 0); }'
    want jansson libjansson-dev jansson-devel jansson jansson library jansson \
        '#include <jansson.h>\nint main(void) { return !json_object(); }'
    want xxHash libxxhash-dev xxhash-devel xxhash xxhash library libxxhash \
        '#include <xxhash.h>\nint main(void) { return !XXH3_createState(); }'
    want ncurses libncurses-dev ncurses-devel ncurses ncurses library ncursesw \
        '#include <curses.h>\nint main(void) { return curses_version() == 0; }'
}

look_for_test() {
    want 'C++ compiler' build-essential gcc-c++ gcc gcc links c++ cc "$main_c"
    want 'gcc sanitizers' build-essential 'libasan libubsan' gcc gcc links gcc c "$main_c" -fsanitize=address,undefined
    want 'gcc thread sanitizer' build-essential libtsan gcc gcc links gcc c "$main_c" -fsanitize=thread
    want clang clang clang clang llvm links clang c "$main_c"
    want 'clang fuzzer' libclang-rt-dev compiler-rt compiler-rt llvm links clang c "$fuzz_c" -fsanitize=fuzzer,address,undefined
    want cmocka libcmocka-dev libcmocka-devel cmocka cmocka library cmocka \
        '#include <setjmp.h>\n#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <cmocka.h>\nint main(void) { return !cmocka_set_message_output; }'
    want tmux tmux tmux tmux tmux have tmux
    want 'Vulkan loader' libvulkan-dev vulkan-loader-devel vulkan-icd-loader vulkan-loader library vulkan \
        '#include <vulkan/vulkan.h>\nint main(void) { return !vkCreateInstance; }'
    want glslc glslc glslc shaderc shaderc have glslc
    want spirv-tools spirv-tools spirv-tools spirv-tools spirv-tools have spirv-val
    want 'software Vulkan driver' mesa-vulkan-drivers mesa-vulkan-drivers vulkan-swrast molten-vk \
        any_file /usr/share/vulkan/icd.d/lvp_icd* /usr/local/share/vulkan/icd.d/lvp_icd* /etc/vulkan/icd.d/lvp_icd*
    want 'Vulkan validation layers' vulkan-validationlayers vulkan-validation-layers vulkan-validation-layers vulkan-validationlayers \
        any_file /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json /etc/vulkan/explicit_layer.d/VkLayer_khronos_validation.json
}

look() {
    missing='' apt_packages='' dnf_packages='' pacman_packages='' brew_packages=''
    look_for_run
    [ "$mode" = run ] || look_for_test
    missing=${missing#, }
}

# Each package once, in order.
unique() {
    printf '%s\n' "$@" | awk '!seen[$0]++ { printf "%s%s", gap, $0; gap = " " }'
}

say_by_hand() {
    {
        echo "tailor: setup: missing: $missing"
        # shellcheck disable=SC2086 # the lists are words
        printf '  %s\n' "install them, then run make again. For example:" \
            "  Debian, Ubuntu:  apt-get install $(unique $apt_packages)" \
            "  Fedora:          dnf install $(unique $dnf_packages)" \
            "  Arch:            pacman -S $(unique $pacman_packages)" \
            "  Homebrew:        brew install $(unique $brew_packages)"
    } >&2
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

apt_install() {
    # shellcheck disable=SC2086 # the list is words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 install $apt_packages </dev/null
}

apt_update() {
    as_root apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update </dev/null
}

look
[ -z "$missing" ] && exit 0
if ! have apt-get; then
    say_by_hand
    exit 1
fi
if [ "$(id -u)" -ne 0 ] && ! have sudo; then
    say_by_hand
    echo "tailor: setup: cannot install them: neither root nor sudo here" >&2
    exit 1
fi
# shellcheck disable=SC2086 # the list is words
apt_packages=$(unique $apt_packages)
echo "tailor: setup: installing $apt_packages"
# A password is asked for here, on the terminal; what follows is written to a file.
if [ "$(id -u)" -ne 0 ] && [ -t 0 ]; then
    sudo -v || exit 1
fi
if ! apt_install >"$scratch/log" 2>&1; then
    # Package lists are often absent (a container) or old.
    if ! { apt_update && apt_install; } >>"$scratch/log" 2>&1; then
        cat "$scratch/log" >&2
        echo "tailor: setup: apt-get failed (its words are above)" >&2
        exit 1
    fi
fi
look
if [ -n "$missing" ]; then
    echo "tailor: setup: installed, yet still missing or too old: $missing" >&2
    exit 1
fi
