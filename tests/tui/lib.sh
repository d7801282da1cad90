# shellcheck shell=bash
# Drives a program in a terminal of tmux: keys in, screen out. Sourced by the tests beside it, which are
# called with the program and the source folder. Exit 77 where there is no tmux.
tailor=$1
source_dir=$2
if ! command -v tmux >/dev/null; then
    echo "skipped: no tmux here (scripts/setup.sh test installs it)"
    exit 77
fi
work=$(mktemp -d)
model=$source_dir/models/demo.gguf
n_checks=0
export work model tailor
export HOME=$work XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run
export LC_ALL=C.UTF-8 TERM=xterm-256color
unset NO_COLOR COLORTERM TMUX EDITOR VISUAL
mkdir -p "$work/run"
printf 'PS1="$ "\n' >"$work/rc"

term() { tmux -S "$work/socket" -f /dev/null "$@"; }
cleanup() {
    jobs -p | xargs -r kill -9 2>/dev/null
    term kill-server 2>/dev/null
    sleep 0.3
    rm -rf "$work"
}
trap cleanup EXIT

screen() { term capture-pane -t t -p; }
fail() {
    echo "FAILED: $*"
    echo "---- the screen:"
    screen
    exit 1
}

# open COLS ROWS: a shell in a terminal of this size, in the work folder
open_terminal() {
    term kill-server 2>/dev/null
    sleep 0.1
    term new-session -d -s t -x "$1" -y "$2" -c "$work" bash --noprofile --rcfile "$work/rc" || exit 1
    term set-option -s escape-time 10
    wait_for '\$'
}
resize() { term resize-window -t t -x "$1" -y "$2"; }
keys() { term send-keys -t t "$@"; }
line() {
    keys -l "$1"
    keys Enter
}

# Whether a line of the screen matches, or, for a REGEX without anchors, its lines as one.
seen() {
    local now
    now=$(screen)
    grep -qE -- "$1" <<<"$now" && return 0
    case $1 in *^* | *\$*) return 1 ;; esac
    tr -s ' \n' ' ' <<<"$now" | grep -qE -- "$1"
}
# wait_for REGEX [SECONDS]: until it is seen
wait_for() {
    local tries=$((${2:-20} * 10))
    n_checks=$((n_checks + 1))
    while [ $tries -gt 0 ]; do
        seen "$1" && return 0
        sleep 0.1
        tries=$((tries - 1))
    done
    fail "no '$1' after ${2:-20} s"
}
wait_gone() {
    local tries=$((${2:-20} * 10))
    n_checks=$((n_checks + 1))
    while [ $tries -gt 0 ]; do
        screen | grep -qE -- "$1" || return 0
        sleep 0.1
        tries=$((tries - 1))
    done
    fail "still '$1' after ${2:-20} s"
}
to_bottom() {
    while seen 'more below'; do
        keys PageDown
        sleep 0.2
    done
}
# scroll_to REGEX: up through the chat, and down again. What is sought may yet be on its way: from the top it
# begins anew.
scroll_to() {
    local before tries rounds=0
    until seen "$1"; do
        before=$(screen)
        tries=0
        keys PageUp
        while [ "$(screen)" = "$before" ] && [ $tries -lt 20 ]; do # unless it moved, the next one is skipped
            tries=$((tries + 1))
            sleep 0.1
        done
        if [ $tries -eq 20 ]; then
            rounds=$((rounds + 1))
            [ $rounds -lt 5 ] || fail "no '$1' above"
            to_bottom
        fi
    done
    to_bottom
}
never() {
    n_checks=$((n_checks + 1))
    if screen | grep -qE -- "$1"; then fail "there is '$1'"; fi
}
# The last line of the screen that is not empty.
bottom() { screen | grep -v '^ *$' | tail -n 1; }

# start COMMAND: on a clear screen, "code N" behind it. Under a shell without job control: where somebody
# stops the process for a while (a measurement on this machine), it goes on where it was, instead of losing
# its terminal to the shell.
start() {
    printf '%s\necho code $?\n' "$1" >"$work/go"
    line "clear; sh $work/go"
}
# chat ARGS...: starts a chat and waits until it is ready
chat() {
    start "$tailor chat -m $model --temp 0 $*"
    wait_for '^ ready|^ answering'
}
# Waits until what was sent (the prompt is empty then) is done.
answered() {
    wait_for 'say something'
    wait_for '^ ready' 120
}
# The tailor that runs in the terminal.
child() { pgrep -n -s "$(term display-message -p -t t '#{pane_pid}')" -x tailor; }
# click COL ROW (from 1): as terminals report a button that is pressed, and let go
click() {
    local report
    report=$(printf '\033[<0;%d;%dM\033[<0;%d;%dm' "$1" "$2" "$1" "$2" | od -An -tx1)
    # shellcheck disable=SC2086 # words
    keys -H $report
}
# click_on TEXT [REGEX]: where it stands, in the first row that matches
click_on() {
    local place
    place=$(screen | sed 's/[^ -~]/./g' | awk -v text="$1" -v row="${2:-.}" \
        '$0 ~ row { c = index($0, text) } c { print c, NR; exit }')
    [ -n "$place" ] || fail "no '$1' to click on"
    # shellcheck disable=SC2086 # two words
    click $place
}
leave() {
    keys C-d
    wait_for '^code [0-9]+'
}
# The shell has its terminal back: lines are edited, keys are echoed.
restored() {
    line 'clear; stty -a | grep -oE -- "-?(icanon|echo|isig) " | tr "\n" "."; echo'
    wait_for '(^|\.)isig \.icanon \.echo \.'
}
