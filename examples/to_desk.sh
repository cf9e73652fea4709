# A command for collect.toml: puts each message into a folder, once.
#
# The key is the same for every attempt, so a message that comes again replaces itself.

set -e
umask 077
mkdir -p "desk/$1"
cat > "desk/$1/.$POP3CONNECT_KEY.part"
sync "desk/$1/.$POP3CONNECT_KEY.part" 2>/dev/null || sync
mv "desk/$1/.$POP3CONNECT_KEY.part" "desk/$1/$POP3CONNECT_KEY.eml"
