#!/usr/bin/env bash
# The house rules that a program can check (docs/style.md). Prints each breach as file:line: what,
# and nothing where there is none.
#   scripts/check.sh                 the source: lengths, white space, headers, version, shell, format
#   scripts/check.sh symbols BUILD   what the libraries of a build folder export and call
set -uo pipefail
cd "$(dirname "$0")/.." || exit
status=0
breach() {
    status=1
    echo "$*"
}

folders=(core backends shaders tui cli tests bench scripts cmake docs models)
# Files of ours with one of these endings; text that somebody else's tool wrote (goldens) is not ours.
ours() {
    local pattern=$1
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard -- "${folders[@]}" '*.md' .ci Makefile CMakeLists.txt
    else
        find "${folders[@]}" ./*.md .ci Makefile CMakeLists.txt -type f 2>/dev/null
    fi | grep -E "$pattern" | grep -v -e '/golden/' -e '^tests/corpus/' -e '^venv/' | sort -u |
        while read -r file; do [ -f "$file" ] && echo "$file"; done
}

# A function runs from its first line at column 0 to the closing brace at column 0.
functions_too_long() {
    awk -v limit="$2" -v exceptions=scripts/long_functions.txt '
        BEGIN { while ((getline line < exceptions) > 0) if (line !~ /^#/) excused[line] = 1 }
        /^[A-Za-z_]/ && !open_since { open_since = FNR; head = "" }
        open_since { head = head $0 }
        /;[ \t]*(\/\*.*)?$/ && head !~ /\{/ { open_since = 0 }
        /^}/ {
            decl = head; sub(/\{.*/, "", decl)
            if (open_since && decl ~ /\(/ && decl !~ /=/) {
                name = decl; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
                n = FNR - open_since + 1
                if (n > limit && !((FILENAME " " name) in excused))
                    printf "%s:%d: %s has %d lines, more than %d\n", FILENAME, open_since, name, n, limit
            }
            open_since = 0; head = ""
        }
        /extern "C" \{/ { open_since = 0; head = "" }' "$1"
}

check_lengths() {
    local file limit found
    while read -r file; do
        [ "$(wc -l <"$file")" -le 800 ] || breach "$file:801: more than 800 lines"
        case $file in
        *.c | *.h) limit=70 ;;
        *) limit=0 ;;
        esac
        case $file in
        backends/cpu/x86_* | *.cu | *.cuh | *.comp | *.glsl) limit=120 ;;
        esac
        [ $limit -eq 0 ] && continue
        found=$(functions_too_long "$file" $limit)
        [ -z "$found" ] || breach "$found"
    done < <(ours '\.(c|h|cu|cuh|comp|glsl|sh|py|cmake)$')
}

check_white_space() {
    local found
    found=$(ours '\.(c|h|cu|cuh|comp|glsl|sh|py|cmake|txt|md|json)$|Makefile$' | grep -v -e '^models/.*\.txt$' |
        xargs -r grep -nE '[ 	]+$' | sed 's/\(:[0-9]*:\).*/\1 space at the end of the line/')
    [ -z "$found" ] || breach "$found"
    found=$(ours '\.(c|h|cu|cuh|comp|glsl|sh|py|cmake)$' | xargs -r grep -n "$(printf '\t')" |
        grep -v '^scripts/check\.sh:' | sed 's/\(:[0-9]*:\).*/\1 a tab/')
    [ -z "$found" ] || breach "$found"
}

# Each header alone, twice, as C11 and as C++17.
check_headers() {
    local header errors
    local common="-I. -isystem tests/cuda_emu/include -Wall -Wextra -Wpedantic -Werror -D_POSIX_C_SOURCE=200809L -fsyntax-only"
    while read -r header; do
        for language in 'cc -x c -std=c11' 'c++ -x c++ -std=c++17'; do
            # shellcheck disable=SC2086 # flags are words
            errors=$(printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
                $language $common - 2>&1) || breach "$header: alone by $language: $errors"
        done
    done < <(ours '\.h$' | grep -v '^tests/cuda_emu/include/')
}

check_version() {
    local version
    version=$(head -n 1 VERSION)
    [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || breach "VERSION:1: '$version' is not MAJOR.MINOR.PATCH"
    grep -q "^## \[$version\]" CHANGELOG.md || breach "CHANGELOG.md: no section [$version]"
}

check_shell() {
    command -v shellcheck >/dev/null || return 0
    local found
    found=$(ours '\.sh$|^\.ci/run$' | xargs -r shellcheck -f gcc 2>&1)
    [ -z "$found" ] || breach "$found"
}

# Other versions of clang-format disagree in details.
check_format() {
    clang-format --version 2>/dev/null | grep -q 'version 14\.' || return 0
    local n
    n=$(ours '\.(c|h|cu|cuh)$' | xargs -r clang-format --dry-run 2>&1 | grep -c 'code should be clang-formatted')
    [ "$n" -eq 0 ] || breach "$n places that 'make format' would change"
}

# A backend exports one table and names with its private prefix; core exports tl_ names only. None
# keeps writable globals; none prints, exits or reads the environment (a failed assertion aside).
check_symbols() {
    local build=$1 library prefix found tables
    for library in "$build"/libtl_core.a "$build"/backends/libtl_*.a; do
        case $library in
        *_core.a) prefix='tl_' ;;
        *_backends.a) prefix='tl_backends$' ;;
        *_cpu.a) prefix='(cpu_|tl_backend_cpu$)' ;;
        *_cuda.a) prefix='(cu_|tl_backend_cuda$)' ;;
        *_vulkan.a) prefix='(vk_|tl_backend_vulkan$)' ;;
        *) breach "$library: no rule for it in scripts/check.sh" && continue ;;
        esac
        found=$(nm -g --defined-only "$library" | awk 'NF == 3 { print $3 }' | grep -vE "^$prefix")
        [ -z "$found" ] || breach "$library: exports $(tr '\n' ' ' <<<"$found")"
        found=$(objdump -t "$library" | awk 'NF > 4 && $(NF - 2) ~ /^\.(data|bss)(\.[^r]|$)/ && $(NF - 1) !~ /^0+$/ { print $NF }' |
            grep -v '^\.')
        [ -z "$found" ] || breach "$library: writable globals: $(tr '\n' ' ' <<<"$found")"
        found=$(nm -A --undefined-only "$library" | grep -v ':base\.c\.o:' |
            grep -E ' U (printf|puts|putchar|perror|fprintf|fputs|stdout|stderr|exit|_exit|abort|getenv)$' |
            sed 's/.*:\([^:]*\)\.o:.* U /\1 uses /' | paste -s -d ';')
        [ -z "$found" ] || breach "$library: $found"
        case $library in *_core.a | *_backends.a) continue ;; esac
        tables=$(nm -g --defined-only "$library" | grep -cE ' [DR] tl_backend_')
        [ "$tables" -eq 1 ] || breach "$library: $tables tables, not 1"
    done
}

if [ "${1:-}" = symbols ]; then
    check_symbols "$2"
else
    check_lengths
    check_white_space
    check_headers
    check_version
    check_shell
    check_format
fi
exit $status
